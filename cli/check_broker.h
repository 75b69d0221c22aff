/* Does an MQTT broker let us in? A real CONNECT (check_login.h), MQTT 5 and then 3.1.1 as the consumer has it,
 * and, if that fails, why: the name, the address, TLS (check_tls.h), or what the broker says. Each of these has
 * CHECK_TIMEOUT_MS. */
#ifndef CLI_CHECK_BROKER_H
#define CLI_CHECK_BROKER_H

#include "cli/check_server.h"
#include "common/settings/settings.h"

/* server->address is the broker's address. */
void check_broker(const struct settings_mqtt *mqtt, struct check_server *server);

/* `<client_id>-check-<hex>`, never a consumer's own. A broker of MQTT 3.1.1 must take 23 bytes, and takes as
 * many as the consumer's has: it is no longer than that, and the client id is cut for it. Pure. */
#define CHECK_CLIENT_ID_SIZE (SETTINGS_CLIENT_ID_MAX + 32)
void check_client_id(const char *client_id, uint64_t random, char out[CHECK_CLIENT_ID_SIZE]);

#endif
