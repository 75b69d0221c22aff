/* The servers of one cluster, in the order in which they are tried: [mqtt] server_uris, or the one that
 * host, port and tls name. Pure. */
#ifndef CONSUMER_SESSION_SERVERS_H
#define CONSUMER_SESSION_SERVERS_H

#include "common/base/error.h"
#include "common/base/settings.h"

struct session_server {
    char *uri;   /* tcp://host:port or ssl://host:port */
    char *place; /* host:port, for people and for reach.h */
    bool tls;
};

struct session_servers {
    struct session_server *at;
    size_t len; /* at least 1 */
};

/* -ERR_USAGE with nothing to be freed. */
MUST_CHECK int session_servers_read(struct session_servers *servers,
                                    const struct settings_mqtt *settings, struct error *err);
void session_servers_free(struct session_servers *servers);

#endif
