/* The address of an MQTT broker as the settings have it: [SCHEME://]HOST[:PORT][/] in [mqtt] server_uris or
 * host, with tcp, mqtt (the same), ssl, tls or mqtts and an IPv6 address in brackets; or host, port and tls.
 * Pure. */
#ifndef COMMON_SETTINGS_BROKER_ADDRESS_H
#define COMMON_SETTINGS_BROKER_ADDRESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

/* The strings are owned. */
struct broker_address {
    char *uri;  /* as paho has it: tcp://host:port, ssl://[::1]:8883 */
    char *name; /* host:port, for people */
    char *host; /* an IPv6 address without its brackets */
    char *port; /* a number from 1 to 65535 */
    bool tls;
    bool has_scheme; /* that and a port were written */
    bool has_port;
};

/* tls: where the text has no scheme. -ERR_USAGE, with nothing to be freed, if it is no such address; the
 * error names it, unless a password may be in it. */
MUST_CHECK int broker_address_read(struct broker_address *address, struct bytes text, bool tls,
                                   struct error *err);
/* host, port and tls, which the settings have checked. */
void broker_address_of(struct broker_address *address, const struct settings_mqtt *settings);
void broker_address_free(struct broker_address *address);

/* server_uris, or where that names none the one of host, port and tls; to be freed. Items as of
 * bytes_next_item. */
char *broker_address_list(const struct settings_mqtt *settings);

#endif
