#include "cli/check_broker.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"
#include "common/base/sys.h"
#include "common/client/resolve.h"
#include "common/client/tls_socket.h"
#include "common/settings/broker_address.h"
#include "common/wire/mqtt_codes.h"

#include <MQTTClient.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLIENT_ID_MUST_TAKE 23
#define HEX_DIGITS          5
#define GRACE_MS            1000 /* paho keeps its time-outs only roughly */
#define DISCONNECT_MS       500
/* With TLS 1.3 a broker that wants a client certificate says so only after the handshake. */
#define ALERT_WAIT_MS 1000

void check_broker_client_id(const char *client_id, uint64_t random,
                            char out[CHECK_BROKER_CLIENT_ID_SIZE])
{
    size_t room = strlen(client_id);
    size_t more = strlen("-check-") + HEX_DIGITS;

    room = (room > CLIENT_ID_MUST_TAKE ? room : CLIENT_ID_MUST_TAKE) - more;
    size_t len = strnlen(client_id, room);
    /* A UTF-8 character must not be cut in two. */
    while (client_id[len] && len > 0 && ((unsigned char)client_id[len] & 0xc0) == 0x80)
        len--;
    snprintf(out, CHECK_BROKER_CLIENT_ID_SIZE, "%.*s-check-%0*x", (int)len, client_id, HEX_DIGITS,
             (unsigned)(random & 0xfffff));
}

static bool wait_for(int fd, short events, int64_t deadline_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int ready;

    do {
        ready = poll(&poll_fd, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms()));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0;
}

/* A login by paho's blocking client. No other file includes MQTTClient.h. */
enum login_result {
    LOGIN_TAKEN,
    LOGIN_REFUSED, /* code: that of CONNACK */
    LOGIN_ENDED,   /* no connection was made, or it ended without CONNACK */
    LOGIN_SILENT,  /* no CONNACK in time */
    LOGIN_FAULT,   /* paho does not even try; code: that of paho */
};

struct login_answer {
    enum login_result result;
    int code;
};

/* Only the thread uses the login until the call is done. All texts are copies, since the
 * settings may be freed earlier. */
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
    /* Never NULL: OpenSSL would ask at the terminal for the password of an encrypted key. */
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
        options.cleanstart = 1; /* no expiry is set: the session ends with the connection */
    else
        options.cleansession = 1;
    options.connectTimeout = (int)(login->timeout_ms / 1000);
    options.username = or_null(login->username);
    options.password = or_null(login->password);
    return options;
}

/* Returns the code of CONNACK, 0 after a success, or paho's negative error. */
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

static void connect_in_thread(void *data)
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

/* Removes the variables of proxies, to which paho would connect for MQTT too. paho heeds
 * no_proxy only since 1.3.14. */
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

/* uri: "tcp://host:port" or "ssl://host:port". version: 5, or 4 for 3.1.1. Waits at most
 * timeout_ms and a second, even if paho waits longer. */
static struct login_answer send_connect(const struct settings_mqtt *mqtt, const char *uri,
                                        const char *client_id, int version, int64_t timeout_ms)
{
    struct login *login = login_new(mqtt, uri, client_id, version, timeout_ms);
    struct login_answer answer = {.result = LOGIN_SILENT};
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms + GRACE_MS;

    begin_library();
    struct offload *call = offload_start(connect_in_thread, login_free, login);
    if (!call) { /* no thread can be started: only paho limits the time */
        connect_in_thread(login);
        answer = login->answer;
        login_free(login);
        return answer;
    }
    while (!offload_is_done(call) && wait_for(offload_fd(call), POLLIN, deadline_ms)) {
    }
    if (offload_is_done(call))
        answer = login->answer;
    offload_free(call);
    return answer;
}

static const char *library_fault(int code)
{
    const char *text = MQTTClient_strerror(code);

    return text ? text : "an unknown fault of the MQTT library";
}

struct checking {
    const struct settings_mqtt *mqtt;
    struct check_server *server;
    struct broker_address address;
    char numeric[RESOLVE_ADDRESS_SIZE]; /* the IP address to which paho connects */
};

/* Adds a hint such as "see [mqtt] host and port (MQTT_HOST, MQTT_PORT)". The keys of further
 * consumers have no variables. */
static void fail(struct checking *checking, const char *what, const char *keys,
                 const char *variables)
{
    const char *name = checking->mqtt->name;
    char *mend = name[0] ? xasprintf("see %s of [consumer:%s] or [mqtt]", keys, name)
                         : xasprintf("see [mqtt] %s (%s)", keys, variables);

    check_server_fail(checking->server, what, mend);
    free(mend);
}

static void fail_at_address(struct checking *checking, const char *what)
{
    if (checking->mqtt->server_uris[0])
        check_server_fail(checking->server, what, "see server_uris");
    else
        fail(checking, what, "host, port and tls", "MQTT_HOST, MQTT_PORT, MQTT_TLS");
}

static void report_no_answer(struct checking *checking, const char *what)
{
    char *text = xasprintf("%s within %d s", what, CHECK_TIMEOUT_MS / 1000);

    fail_at_address(checking, text);
    free(text);
}

static struct tls_socket_options socket_options(const struct checking *checking)
{
    static const struct tls_socket_words WORDS = {
        .ca_file = "ca_file",
        .cert_file = "cert_file",
        .key_file = "key_file",
        .key_must = "cert_file's private key, and key_password (MQTT_KEY_PASSWORD) its password",
        .other_name = "see [mqtt] host (MQTT_HOST)",
        .no_tls = "see [mqtt] tls and port (MQTT_TLS, MQTT_PORT)",
        .has_tls = "see [mqtt] tls (MQTT_TLS)",
    };
    const struct settings_mqtt *mqtt = checking->mqtt;

    return (struct tls_socket_options){.enabled = checking->address.tls,
                                       .verify_peer = mqtt->tls_verify,
                                       .verify_name = mqtt->tls_verify,
                                       .sni = true,
                                       .ca_file = or_null(mqtt->ca_file),
                                       .cert_file = or_null(mqtt->cert_file),
                                       .key_file = or_null(mqtt->key_file),
                                       .passphrase = mqtt->key_password,
                                       .words = &WORDS};
}

/* Repeats a step of the connection until it is done: 1; 0: not in time. */
static int repeat(int (*step)(struct tls_socket *socket, struct error *err),
                  struct tls_socket *socket, int64_t deadline_ms, struct error *err)
{
    int result;

    while ((result = step(socket, err)) == 0 &&
           wait_for(tls_socket_fd(socket), tls_socket_events(socket, step == tls_socket_connect),
                    deadline_ms)) {
    }
    return result;
}

static int read_alert(struct tls_socket *socket, struct error *err)
{
    char byte;
    ssize_t got = tls_socket_read(socket, &byte, 1, err);

    return got > 0 ? 1 : (int)got;
}

/* True if the error is the server's own word on the connection, which an end without a word is not. */
static bool is_answer(const struct error *err)
{
    return err->code == ERR_REFUSED || strstr(err->text, "alert") != NULL;
}

static void explain_tls(struct checking *checking, struct tls_socket *socket, int64_t deadline_ms)
{
    struct error err = {0};
    int result = repeat(tls_socket_shake_hands, socket, deadline_ms, &err);

    if (result == 0) {
        report_no_answer(checking, "it gives no answer in the TLS handshake");
        return;
    }
    deadline_ms = clock_monotonic_ms() + ALERT_WAIT_MS;
    if (result < 0 || (repeat(read_alert, socket, deadline_ms, &err) < 0 && is_answer(&err))) {
        check_server_fail(checking->server, err.text, "");
        return;
    }
    bool ipv6 = strchr(checking->address.host, ':') && checking->mqtt->tls_verify;
    check_server_fail(checking->server,
                      "it ends the connection behind the TLS handshake, without an answer",
                      ipv6 ? "the MQTT library compares no certificate with an IPv6 address: "
                             "give the broker's name"
                           : "its log may say why");
}

/* Finds the reason of a failure by another connection, since paho does not report the reason. */
static void explain(struct checking *checking, enum login_result login)
{
    const struct tls_socket_options options = socket_options(checking);
    const struct broker_address *address = &checking->address;
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_TIMEOUT_MS;
    struct tls_socket *socket = NULL;
    struct error err = {0};
    int result = tls_socket_open(&socket, &options, address->host, checking->numeric,
                                 (int)strtol(address->port, NULL, 10), &err);

    if (result == 0)
        result = repeat(tls_socket_connect, socket, deadline_ms, &err);
    if (result == 0)
        report_no_answer(checking, "no answer");
    else if (result < 0)
        fail_at_address(checking, err.text);
    else if (login == LOGIN_SILENT)
        report_no_answer(checking, "it takes the connection but gives no answer");
    else if (!address->tls)
        fail_at_address(checking, "it ends the connection without an answer: does it want TLS "
                                  "(MQTT_TLS)?");
    else
        explain_tls(checking, socket, deadline_ms);
    tls_socket_free(socket);
}

/* Looks up the host before paho does: paho would block, so paho gets no name without an address. */
static bool look_up(struct checking *checking)
{
    struct resolve *resolve = resolve_new(checking->address.host);
    struct resolve_answer answer = {0};
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_TIMEOUT_MS;
    bool answered;

    resolve_ask(resolve);
    while (!(answered = resolve_take(resolve, &answer)) &&
           wait_for(resolve_fd(resolve), POLLIN, deadline_ms)) {
    }
    resolve_free(resolve);
    if (!answered)
        report_no_answer(checking, "the name servers give no answer");
    else if (answer.len == 0)
        fail_at_address(checking, answer.text);
    /* paho tries only one address: the first of IPv4, else the first of all. */
    resolve_put_ipv4_first(&answer);
    snprintf(checking->numeric, sizeof(checking->numeric), "%s", answer.address[0]);
    return answer.len > 0;
}

static bool is_bad_version(const struct login_answer *answer)
{
    return answer->result == LOGIN_REFUSED && (answer->code == 1 || answer->code == 0x84);
}

static void report_refused(struct checking *checking, int version, int code, const char *client_id)
{
    char *what = xasprintf("it refuses the connection: %s", mqtt_codes_text(version, code));
    bool three = version == 4;
    bool not_authorized = code == (three ? 5 : 0x87);

    if (code == (three ? 2 : 0x85) || (not_authorized && !checking->mqtt->username[0])) {
        char *mend = xasprintf("does it want a user (username, password), or only certain client "
                               "ids? This check's is \"%s\"",
                               client_id);

        check_server_fail(checking->server, what, mend);
        free(mend);
    } else if (not_authorized || code == (three ? 4 : 0x86) || code == 0x8c) {
        fail(checking, what, "username and password", "MQTT_USERNAME, MQTT_PASSWORD");
    } else if (code == (three ? 1 : 0x84)) {
        check_server_fail(checking->server, what, "see [mqtt] version");
    } else {
        check_server_fail(checking->server, what, "its log may say why");
    }
    free(what);
}

static void log_in(struct checking *checking)
{
    const struct settings_mqtt *mqtt = checking->mqtt;
    const char *uri = checking->address.uri;
    char client_id[CHECK_BROKER_CLIENT_ID_SIZE];
    bool five = mqtt->version == MQTT_VERSION_5;
    int version = five ? 5 : 4;

    check_broker_client_id(mqtt->client_id, sys_random_u64(), client_id);
    struct login_answer answer = send_connect(mqtt, uri, client_id, version, CHECK_TIMEOUT_MS);
    if (five && (is_bad_version(&answer) || answer.result == LOGIN_ENDED)) {
        /* Some brokers refuse MQTT 5 by closing the connection. */
        version = 4;
        answer = send_connect(mqtt, uri, client_id, version, CHECK_TIMEOUT_MS);
    }
    switch (answer.result) {
    case LOGIN_TAKEN:
        if (five && version == 4)
            check_server_note(checking->server, "it refuses MQTT 5; 3.1.1 is used");
        break;
    case LOGIN_REFUSED:
        report_refused(checking, version, answer.code, client_id);
        break;
    case LOGIN_ENDED:
    case LOGIN_SILENT:
        explain(checking, answer.result);
        break;
    case LOGIN_FAULT:
        fail_at_address(checking, library_fault(answer.code));
        break;
    }
}

void check_broker(const struct settings_mqtt *mqtt, struct check_server *server)
{
    struct checking checking = {.mqtt = mqtt, .server = server};
    struct error err = {0};

    if (broker_address_read(&checking.address, bytes_of(server->address), mqtt->tls, &err) < 0) {
        check_server_fail(server, err.text, "see server_uris");
        return;
    }
    const struct tls_socket_options options = socket_options(&checking);
    if (options.enabled && tls_socket_check(&options, &err) < 0)
        check_server_fail(server, err.text, "");
    else if (look_up(&checking))
        log_in(&checking);
    broker_address_free(&checking.address);
}
