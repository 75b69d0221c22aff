/* The address of an MQTT broker in the settings. It is [SCHEME://]HOST[:PORT][/] in [mqtt] server_uris or host; or
 * host, port and tls. Schemes are tcp and mqtt, or with TLS ssl, tls and mqtts; an IPv6 address is in brackets.
 * Pure. */
#ifndef COMMON_SETTINGS_BROKER_ADDRESS_H
#define COMMON_SETTINGS_BROKER_ADDRESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

/* The strings are owned. */
struct broker_address {
    char *uri;  /* for paho: tcp://host:port, ssl://[::1]:8883 */
    char *name; /* host:port, for people */
    char *host; /* an IPv6 address without its brackets */
    char *port; /* a number from 1 to 65535 */
    bool tls;
    bool has_scheme; /* the text has a scheme */
    bool has_port;   /* the text has a port */
};

/* tls: used if the text has no scheme. -ERR_USAGE, with nothing to be freed, if the text is no address; err shows it,
 * unless it may hold a password. */
MUST_CHECK int broker_address_read(struct broker_address *address, struct bytes text, bool tls,
                                   struct error *err);
/* host, port and tls, which the settings have checked. */
void broker_address_of(struct broker_address *address, const struct settings_mqtt *settings);
void broker_address_free(struct broker_address *address);

/* server_uris, or if that is empty the address of host, port and tls. A list for bytes_next_item; to be freed. */
char *broker_address_list(const struct settings_mqtt *settings);

#endif
