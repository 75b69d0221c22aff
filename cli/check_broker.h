/* Does an MQTT broker let us in? A real CONNECT, MQTT 5 and then 3.1.1 as the consumer has it, and, if that fails,
 * why: the name, the address, TLS, or what the broker says. Each of these has CHECK_TIMEOUT_MS.
 *
 * CONNECT has the settings' TLS, user and password, and a DISCONNECT behind it. A running bridge does not notice: the
 * client id is one of our own, the session begins clean and ends with the connection, there is no last will and no
 * subscription. No proxy is used: http_proxy and https_proxy are taken out of the environment.
 *
 * The MQTT library does not tell why a TLS connection does not come about. So its handshake is made once more, with the
 * same files, and nothing is sent behind it. */
#ifndef CLI_CHECK_BROKER_H
#define CLI_CHECK_BROKER_H

#include "cli/check_server.h"
#include "common/settings/settings.h"

/* server->address is the broker's address. */
void check_broker(const struct settings_mqtt *mqtt, struct check_server *server);

/* `<client_id>-check-<hex>`, never a consumer's own. A broker of MQTT 3.1.1 must take 23 bytes, and takes as
 * many as the consumer's has: it is no longer than that, and the client id is cut for it. Pure. */
#define CHECK_BROKER_CLIENT_ID_SIZE (SETTINGS_CLIENT_ID_MAX + 32)
void check_broker_client_id(const char *client_id, uint64_t random,
                            char out[CHECK_BROKER_CLIENT_ID_SIZE]);

#endif
