/* Does an MQTT broker let us in? One connection, one CONNECT of MQTT 3.1.1 with the settings' user under a
 * client id of its own, so that a running consumer keeps its session. Source: MQTT 3.1.1, sections 3.1 and
 * 3.2. Over TLS only the TCP connection is tried. */
#ifndef CLI_CHECK_BROKER_H
#define CLI_CHECK_BROKER_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/settings.h"

/* uri: "tcp://host:port", "ssl://[::1]:8883", "mqtt://host". -ERR_UNREACHABLE: no connection or no answer;
 * -ERR_REFUSED: it answers, but does not let us in; -ERR_FORMAT: what answers is no broker; -ERR_USAGE. */
MUST_CHECK int check_broker(const struct settings_mqtt *mqtt, struct bytes uri, int64_t timeout_ms,
                            struct error *err);

/* The CONNECT packet. Pure. */
void check_broker_packet(const struct settings_mqtt *mqtt, const char *client_id, struct buf *out);
/* What the broker's answer (of up to 4 bytes) means. Pure. */
MUST_CHECK int check_broker_judge(struct bytes answer, struct error *err);

#endif
