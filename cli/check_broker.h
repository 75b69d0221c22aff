/* Checks that an MQTT broker accepts us. It sends a real CONNECT, with MQTT 5 and then 3.1.1 as the consumer does. If
 * that fails it finds the cause: the name, the address, TLS, or the broker's answer. Each step has CHECK_TIMEOUT_MS.
 *
 * CONNECT has the settings' TLS, user and password, and is followed by DISCONNECT. A running bridge is not disturbed:
 * the client id is another one. The session begins clean and ends with the connection, without last will and
 * subscription. No proxy is used: http_proxy and https_proxy are removed from the environment.
 *
 * The MQTT library does not say why a TLS connection fails. So the handshake is repeated without it, with the settings'
 * files, and nothing is sent after it. */
#ifndef CLI_CHECK_BROKER_H
#define CLI_CHECK_BROKER_H

#include "cli/check_server.h"
#include "common/settings/settings.h"

/* server->address is the broker's address. */
void check_broker(const struct settings_mqtt *mqtt, struct check_server *server);

/* `<client_id>-check-<hex>`, which is never a consumer's client id. A broker of MQTT 3.1.1 must take 23 bytes, and
 * takes as many as the consumer's id has. So the result is not longer than the larger of both: client_id is cut.
 * Pure. */
#define CHECK_BROKER_CLIENT_ID_SIZE (SETTINGS_CLIENT_ID_MAX + 32)
void check_broker_client_id(const char *client_id, uint64_t random,
                            char out[CHECK_BROKER_CLIENT_ID_SIZE]);

#endif
