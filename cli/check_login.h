/* One MQTT CONNECT with the settings' TLS, user and password, and a DISCONNECT behind it. By paho's blocking
 * client: MQTTClient.h is included here and nowhere else.
 *
 * A running bridge does not notice: the client id is one of our own, the session begins clean and ends with
 * the connection, there is no last will and no subscription. No proxy is used: http_proxy and https_proxy are
 * taken out of the environment. */
#ifndef CLI_CHECK_LOGIN_H
#define CLI_CHECK_LOGIN_H

#include "common/settings/settings.h"

enum login_result {
    LOGIN_TAKEN,
    LOGIN_REFUSED, /* code: CONNACK's */
    LOGIN_ENDED,   /* no connection came about, or it ended without an answer */
    LOGIN_SILENT,  /* no answer in time */
    LOGIN_FAULT,   /* the library won't even try; code: its own */
};

struct login_answer {
    enum login_result result;
    int code;
};

/* uri: "tcp://host:port" or "ssl://host:port"; version: 5 or 4 (which is 3.1.1). Waits for timeout_ms and a
 * second more at the most, whatever the library waits for. */
struct login_answer check_login(const struct settings_mqtt *mqtt, const char *uri,
                                const char *client_id, int version, int64_t timeout_ms);
const char *check_login_fault(int code);

#endif
