#include "cli/check_broker.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/offload.h"
#include "common/base/sys.h"
#include "common/client/resolve.h"
#include "common/client/tls.h"
#include "common/settings/broker_address.h"
#include "common/wire/mqtt_codes.h"

#include <MQTTClient.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

/* Returns a connected descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *info, int64_t deadline_ms)
{
    int fault = 0;
    socklen_t size = sizeof(fault);
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    bool connected = connect(fd, info->ai_addr, info->ai_addrlen) == 0;
    if (!connected && errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms)) {
        connected = getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size) == 0 && fault == 0;
        errno = fault;
    }
    if (connected)
        return fd;
    fault = errno;
    close(fd);
    errno = fault;
    return -1;
}

static int connect_to(const char *numeric, const char *port, int64_t deadline_ms)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;

    if (getaddrinfo(numeric, port, &hints, &found) != 0) {
        errno = EINVAL;
        return -1;
    }
    int fd = connect_one(found, deadline_ms);
    int fault = errno;
    freeaddrinfo(found);
    errno = fault;
    return fd;
}

static bool fault(struct buf *why, const char *key, const char *file, const char *hint)
{
    buf_printf(why, "%s %s: %s%s", key, file, tls_reason(), hint);
    ERR_clear_error();
    return false;
}

static bool load_files(const struct settings_mqtt *mqtt, SSL_CTX *context, struct buf *why)
{
    if (!mqtt->ca_file[0])
        SSL_CTX_set_default_verify_paths(context);
    else if (SSL_CTX_load_verify_locations(context, mqtt->ca_file, NULL) != 1)
        return fault(why, "ca_file", mqtt->ca_file, "; it must hold certificates (PEM)");
    if (!mqtt->cert_file[0])
        return true;
    if (SSL_CTX_use_certificate_chain_file(context, mqtt->cert_file) != 1)
        return fault(why, "cert_file", mqtt->cert_file, "; it must hold our certificate (PEM)");
    SSL_CTX_set_default_passwd_cb(context, tls_give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, mqtt->key_password);
    if (SSL_CTX_use_PrivateKey_file(context, mqtt->key_file, SSL_FILETYPE_PEM) != 1) {
        return fault(why, "key_file", mqtt->key_file,
                     "; it must hold the private key of cert_file (PEM), and key_password "
                     "(MQTT_KEY_PASSWORD) its password, if it has one");
    }
    return true;
}

static SSL_CTX *make_context(const struct settings_mqtt *mqtt, struct buf *why)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) {
        fault(why, "TLS", "", "");
    } else if (!load_files(mqtt, context, why)) {
        SSL_CTX_free(context);
        context = NULL;
    }
    return context;
}

static bool load_tls(const struct settings_mqtt *mqtt, struct buf *why)
{
    SSL_CTX *context = make_context(mqtt, why);

    SSL_CTX_free(context);
    return context != NULL;
}

/* Waits until OpenSSL can read or write. Returns false if OpenSSL waits for neither, or after
 * the deadline. */
static bool wait_for_tls(SSL *ssl, int result, int64_t deadline_ms)
{
    int wants = SSL_get_error(ssl, result);

    if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE)
        return false;
    return wait_for(SSL_get_fd(ssl), wants == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN, deadline_ms);
}

static void report_handshake(const struct settings_mqtt *mqtt, struct buf *why)
{
    const char *text = tls_reason();
    bool ended = ERR_peek_error() == 0 || strstr(text, "unexpected eof");
    bool no_tls = strstr(text, "wrong version number") || strstr(text, "packet length too long");

    buf_printf(why, "TLS: %s", ended ? "the connection ends in the handshake" : text);
    if (ended || no_tls) {
        buf_append_text(why, "; is there no TLS on that port? See [mqtt] tls and port (MQTT_TLS, "
                             "MQTT_PORT)");
    } else if (strstr(text, "alert") && !mqtt->cert_file[0]) {
        buf_append_text(why, "; the broker wants a certificate of ours: give it in cert_file and "
                             "key_file");
    } else if (strstr(text, "alert")) {
        buf_append_text(why, "; does the broker take our certificate? See cert_file and key_file");
    }
    ERR_clear_error();
}

static bool judge_certificate(const struct settings_mqtt *mqtt, const char *host, SSL *ssl,
                              struct buf *why)
{
    long result = SSL_get_verify_result(ssl);
    X509 *certificate = SSL_get_peer_certificate(ssl);
    bool good = false;

    if (!certificate) {
        buf_append_text(why, "TLS: the broker has no certificate");
    } else if (result == X509_V_ERR_CERT_HAS_EXPIRED || result == X509_V_ERR_CERT_NOT_YET_VALID) {
        buf_printf(why, "TLS: %s; renew the broker's, or set this machine's clock",
                   X509_verify_cert_error_string(result));
    } else if (result != X509_V_OK) {
        buf_printf(why,
                   "TLS: the broker's certificate is not trusted (%s); [mqtt] ca_file must hold "
                   "the authority that signed it; it is %s",
                   X509_verify_cert_error_string(result),
                   mqtt->ca_file[0] ? mqtt->ca_file : "empty: the system's authorities");
    } else if (X509_check_host(certificate, host, 0, 0, NULL) != 1 &&
               X509_check_ip_asc(certificate, host, 0) != 1) {
        buf_printf(why, "TLS: the broker's certificate is not for %s, but for ", host);
        tls_append_names(why, certificate);
        buf_append_text(why, "; see [mqtt] host (MQTT_HOST)");
    } else {
        good = true;
    }
    X509_free(certificate);
    return good;
}

static bool shake_hands(const struct settings_mqtt *mqtt, const char *host, SSL *ssl,
                        int64_t deadline_ms, struct buf *why)
{
    char byte;
    int result;

    while ((result = SSL_connect(ssl)) != 1 && wait_for_tls(ssl, result, deadline_ms)) {
    }
    if (result != 1) {
        report_handshake(mqtt, why);
        return false;
    }
    if (mqtt->tls_verify && !judge_certificate(mqtt, host, ssl, why))
        return false;
    deadline_ms = clock_monotonic_ms() + ALERT_WAIT_MS;
    while ((result = SSL_read(ssl, &byte, 1)) != 1 && wait_for_tls(ssl, result, deadline_ms)) {
    }
    if (result != 1 && SSL_get_error(ssl, result) == SSL_ERROR_SSL) {
        report_handshake(mqtt, why);
        return false;
    }
    return true;
}

static bool try_tls(const struct settings_mqtt *mqtt, const char *host, int fd, int64_t deadline_ms,
                    struct buf *why)
{
    SSL_CTX *context = make_context(mqtt, why);
    SSL *ssl = context ? SSL_new(context) : NULL;
    bool good = false;

    if (ssl) {
        SSL_set_fd(ssl, fd);
        SSL_set_tlsext_host_name(ssl, host);
        good = shake_hands(mqtt, host, ssl, deadline_ms, why);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    return good;
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

/* Finds the reason of a failure by another connection, since paho does not report the reason. */
static void explain(struct checking *checking, enum login_result result)
{
    const struct broker_address *address = &checking->address;
    struct buf why = {0};
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_TIMEOUT_MS;
    int fd = connect_to(checking->numeric, address->port, deadline_ms);

    if (fd < 0 && errno == ETIMEDOUT) {
        report_no_answer(checking, "no answer");
    } else if (fd < 0) {
        fail_at_address(checking, strerror(errno));
    } else if (result == LOGIN_SILENT) {
        report_no_answer(checking, "it takes the connection but gives no answer");
    } else if (!address->tls) {
        fail_at_address(checking, "it ends the connection without an answer: does it want TLS "
                                  "(MQTT_TLS)?");
    } else if (try_tls(checking->mqtt, address->host, fd, deadline_ms, &why)) {
        bool ipv6 = strchr(address->host, ':') && checking->mqtt->tls_verify;

        check_server_fail(checking->server,
                          "it ends the connection behind the TLS handshake, without an answer",
                          ipv6 ? "the MQTT library compares no certificate with an IPv6 address: "
                                 "give the broker's name"
                               : "its log may say why");
    } else {
        check_server_fail(checking->server, buf_text(&why), "");
    }
    file_close(&fd);
    buf_free(&why);
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
    struct buf why = {0};
    struct error err = {0};

    if (broker_address_read(&checking.address, bytes_of(server->address), mqtt->tls, &err) < 0)
        check_server_fail(server, err.text, "see server_uris");
    else if (checking.address.tls && !load_tls(mqtt, &why))
        check_server_fail(server, buf_text(&why), "");
    else if (look_up(&checking))
        log_in(&checking);
    buf_free(&why);
    broker_address_free(&checking.address);
}
