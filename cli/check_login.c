#include "cli/check_login.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"

#include <MQTTClient.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define GRACE_MS      1000 /* the library keeps its time-outs only roughly */
#define DISCONNECT_MS 500

/* The thread's until it is done, so nothing in it is the settings'. */
struct login {
    char *uri;
    char *client_id;
    char *username;
    char *password;
    char *ca_file;
    char *cert_file;
    char *key_file;
    char *key_password;
    bool tls;
    bool tls_verify;
    int version;
    int64_t timeout_ms;
    struct login_answer answer;
};

static struct login *login_new(const struct settings_mqtt *mqtt, const char *uri,
                               const char *client_id, int version, int64_t timeout_ms)
{
    struct login *made = xcalloc(1, sizeof(*made));

    *made = (struct login){.uri = xstrdup(uri),
                           .client_id = xstrdup(client_id),
                           .username = xstrdup(mqtt->username),
                           .password = xstrdup(mqtt->password),
                           .ca_file = xstrdup(mqtt->ca_file),
                           .cert_file = xstrdup(mqtt->cert_file),
                           .key_file = xstrdup(mqtt->key_file),
                           .key_password = xstrdup(mqtt->key_password),
                           .tls = strncmp(uri, "ssl://", 6) == 0,
                           .tls_verify = mqtt->tls_verify,
                           .version = version,
                           .timeout_ms = timeout_ms};
    return made;
}

static void login_free(void *data)
{
    struct login *login = data;

    free(login->uri);
    free(login->client_id);
    free(login->username);
    free(login->password);
    free(login->ca_file);
    free(login->cert_file);
    free(login->key_file);
    free(login->key_password);
    free(login);
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static MQTTClient_SSLOptions tls_options(const struct login *login)
{
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;

    tls.trustStore = or_null(login->ca_file);
    tls.keyStore = or_null(login->cert_file);
    tls.privateKey = or_null(login->key_file);
    /* Not NULL, with which OpenSSL asks at the terminal for the password of a key that has one. */
    tls.privateKeyPassword = login->key_password;
    tls.enableServerCertAuth = login->tls_verify;
    tls.verify = login->tls_verify;
    return tls;
}

static MQTTClient_connectOptions connect_options(const struct login *login)
{
    static const MQTTClient_connectOptions FIVE = MQTTClient_connectOptions_initializer5;
    static const MQTTClient_connectOptions THREE = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions options = login->version == MQTTVERSION_5 ? FIVE : THREE;

    options.MQTTVersion = login->version;
    if (login->version == MQTTVERSION_5)
        options.cleanstart = 1; /* and no session expiry: it ends with the connection */
    else
        options.cleansession = 1;
    options.connectTimeout = (int)(login->timeout_ms / 1000);
    options.username = or_null(login->username);
    options.password = or_null(login->password);
    return options;
}

/* CONNACK's code, 0 if we are in, or negative. */
static int connect_once(MQTTClient client, MQTTClient_connectOptions *options)
{
    if (options->MQTTVersion != MQTTVERSION_5) {
        int code = MQTTClient_connect(client, options);

        if (code == MQTTCLIENT_SUCCESS)
            MQTTClient_disconnect(client, DISCONNECT_MS);
        return code;
    }
    MQTTResponse response = MQTTClient_connect5(client, options, NULL, NULL);
    int code = (int)response.reasonCode;
    MQTTResponse_free(response);
    if (code == MQTTCLIENT_SUCCESS)
        MQTTClient_disconnect5(client, DISCONNECT_MS, MQTTREASONCODE_SUCCESS, NULL);
    return code;
}

static void log_in(void *data)
{
    struct login *login = data;
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions options = connect_options(login);
    MQTTClient_SSLOptions tls = tls_options(login);
    MQTTClient client = NULL;
    int64_t begun_ms = clock_monotonic_ms();

    create.MQTTVersion = login->version;
    if (login->tls)
        options.ssl = &tls;
    int code = MQTTClient_createWithOptions(&client, login->uri, login->client_id,
                                            MQTTCLIENT_PERSISTENCE_NONE, NULL, &create);
    if (code == MQTTCLIENT_SUCCESS) {
        code = connect_once(client, &options);
        MQTTClient_destroy(&client);
    }
    login->answer.code = code;
    if (code >= 0) {
        login->answer.result = code == MQTTCLIENT_SUCCESS ? LOGIN_TAKEN : LOGIN_REFUSED;
    } else if (code != MQTTCLIENT_FAILURE && code != MQTTCLIENT_DISCONNECTED) {
        login->answer.result = LOGIN_FAULT;
    } else {
        bool late = clock_monotonic_ms() - begun_ms >= login->timeout_ms;

        login->answer.result = late ? LOGIN_SILENT : LOGIN_ENDED;
    }
}

/* paho sends CONNECT to the proxy that these variables name, for MQTT too, and heeds no no_proxy before
 * 1.3.14. */
static void begin_library(void)
{
    static bool begun;
    MQTTClient_init_options init = MQTTClient_init_options_initializer;

    init.do_openssl_init = 1;
    if (!begun) {
        unsetenv("http_proxy");
        unsetenv("https_proxy");
        MQTTClient_global_init(&init);
    }
    begun = true;
}

struct login_answer check_login(const struct settings_mqtt *mqtt, const char *uri,
                                const char *client_id, int version, int64_t timeout_ms)
{
    struct login *login = login_new(mqtt, uri, client_id, version, timeout_ms);
    struct login_answer answer = {.result = LOGIN_SILENT};
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms + GRACE_MS;

    begin_library();
    struct offload *call = offload_start(log_in, login_free, login);
    if (!call) { /* no thread to be had: then nobody looks at the clock but the library */
        log_in(login);
        answer = login->answer;
        login_free(login);
        return answer;
    }
    while (!offload_is_done(call) && clock_monotonic_ms() < deadline_ms) {
        struct pollfd waiting = {.fd = offload_fd(call), .events = POLLIN};

        poll(&waiting, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms()));
    }
    if (offload_is_done(call))
        answer = login->answer;
    offload_free(call);
    return answer;
}

const char *check_login_fault(int code)
{
    const char *text = MQTTClient_strerror(code);

    return text ? text : "an unknown fault of the MQTT library";
}
