#include "consumer/mqtt/mqtt_client.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_S 10
#define REFUSED           0x80 /* codes of SUBACK and CONNACK from 0x80 are refusals */
#define PACKET_TOO_LARGE  0x95
#define NO_SHARED         0x9e
#define NO_WILDCARDS      0xa2
#define SKIP_EVERY_US     500000

/* When this thread last skipped a sleep; 0: the thread does sleep.
 *
 * paho's receive thread calls usleep(100 ms) after each second without a packet, though its poll
 * has waited already. A message that arrives meanwhile waits in the socket. (Of messages 1.1 s
 * apart, four in five waited 70 ms and more.) So this program defines usleep itself, and skips that
 * sleep. The linker finds our usleep before libc's. */
static _Thread_local int64_t last_skipped_us;

static void skip_sleeps(void)
{
    last_skipped_us = clock_monotonic_us();
}

/* Skips the sleep at most twice a second: without a socket the thread waits in nothing but
 * usleep. */
int usleep(useconds_t duration_us)
{
    struct timespec duration = {duration_us / 1000000, (long)(duration_us % 1000000) * 1000};
    int64_t now_us = clock_monotonic_us();

    if (last_skipped_us != 0 && now_us - last_skipped_us > SKIP_EVERY_US) {
        last_skipped_us = now_us;
        return 0;
    }
    return nanosleep(&duration, NULL);
}

/* The context that the library gives back with an answer. */
struct request {
    struct mqtt_client *client;
    enum mqtt_client_event_kind kind; /* the event to post for the answer */
    size_t filter;                    /* SUBSCRIBE: index of the filter */
};

struct mqtt_client {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct receiver *receiver;
    MQTTAsync handle; /* NULL until the first connect */
    int version;
    bool remakes;              /* a handle is being replaced: answers to the old one are ignored */
    struct request *subscribe; /* one for each filter */
    struct request unsubscribe;
    struct request disconnect;
    struct request keep_alive;
    int pipe[2];               /* events, each written and read as a whole */
    _Atomic size_t unanswered; /* number of SUBSCRIBEs without an answer */
    char tls_error[120];       /* error of this connection, written by paho's thread */
};

/* Posts an event to main. The pipe holds some hundred events, and main takes them at once, so
 * that the pipe is never full. */
static void post(struct mqtt_client *client, const struct mqtt_client_event *event)
{
    if (write(client->pipe[1], event, sizeof(*event)) != sizeof(*event))
        abort();
}

static void post_code(struct mqtt_client *client, enum mqtt_client_event_kind kind, int code)
{
    struct mqtt_client_event event = {.kind = kind, .version = client->version, .code = code};

    post(client, &event);
}

bool mqtt_client_take(struct mqtt_client *client, struct mqtt_client_event *event)
{
    return read(client->pipe[0], event, sizeof(*event)) == sizeof(*event);
}

static int64_t number_of(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t otherwise)
{
    if (!MQTTProperties_hasProperty(properties, code))
        return otherwise;
    return (unsigned)MQTTProperties_getNumericValue(properties, code);
}

static void connected(struct mqtt_client *client, bool session_present, MQTTProperties *properties)
{
    struct mqtt_client_event event = {.kind = MQTT_CLIENT_CONNECTED, .version = client->version};

    event.connack = (struct connack){
        .session_present = session_present,
        .session_expiry_s = number_of(properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, -1),
        .maximum_qos = (int)number_of(properties, MQTTPROPERTY_CODE_MAXIMUM_QOS, 2),
        .no_retain = number_of(properties, MQTTPROPERTY_CODE_RETAIN_AVAILABLE, 1) == 0,
        .no_wildcards =
            number_of(properties, MQTTPROPERTY_CODE_WILDCARD_SUBSCRIPTION_AVAILABLE, 1) == 0,
        .no_shared = number_of(properties, MQTTPROPERTY_CODE_SHARED_SUBSCRIPTION_AVAILABLE, 1) == 0,
        .maximum_packet = number_of(properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, INT64_MAX),
        .keep_alive_s = (int)number_of(properties, MQTTPROPERTY_CODE_SERVER_KEEP_ALIVE, -1)};
    skip_sleeps();
    receiver_connected(client->receiver, session_present);
    post(client, &event);
}

static void on_connected5(void *context, MQTTAsync_successData5 *data)
{
    connected(context, data->alt.connect.sessionPresent != 0, &data->properties);
}

static void on_connected(void *context, MQTTAsync_successData *data)
{
    MQTTProperties none = MQTTProperties_initializer;

    connected(context, data->alt.connect.sessionPresent != 0, &none);
}

static void connect_failed(struct mqtt_client *client, int code, const char *message)
{
    struct mqtt_client_event event = {.kind = MQTT_CLIENT_CONNECT_FAILED,
                                      .version = client->version,
                                      .code = code > 0 ? code : 0};

    /* paho has this text for a connection that could not be made by TCP or TLS. NULL means an
     * immediate failure. */
    event.unsent = message == NULL || strcmp(message, "TCP/TLS connect failure") == 0;
    if (client->tls_error[0] != '\0')
        snprintf(event.text, sizeof(event.text), "TLS: %s", client->tls_error);
    if (event.text[0] == '\0' && message != NULL && strstr(message, "timeout") != NULL)
        snprintf(event.text, sizeof(event.text), "no answer in %d s", CONNECT_TIMEOUT_S);
    post(client, &event);
}

static void on_connect_failed5(void *context, MQTTAsync_failureData5 *data)
{
    connect_failed(context, data->code, data->message);
}

static void on_connect_failed(void *context, MQTTAsync_failureData *data)
{
    connect_failed(context, data->code, data->message);
}

static void on_lost(void *context, char *cause)
{
    (void)cause; /* always NULL */
    post_code(context, MQTT_CLIENT_LOST, 0);
}

/* Takes the broker's DISCONNECT. on_lost does not follow. */
static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    struct mqtt_client *client = context;
    struct mqtt_client_event event = {
        .kind = MQTT_CLIENT_LOST, .version = client->version, .code = (int)reason};
    MQTTProperty *said = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);

    if (said != NULL)
        snprintf(event.text, sizeof(event.text), "%.*s", said->value.data.len,
                 said->value.data.data);
    post(client, &event);
}

/* Posts the broker's answer, or paho's own if none came. */
static void answered(const struct request *request, int code)
{
    struct mqtt_client *client = request->client;

    if (request->kind != MQTT_CLIENT_SUBSCRIBED) {
        post_code(client, request->kind, code);
    } else if (!client->remakes) {
        subscriptions_answer(client->filters, request->filter, code);
        if (--client->unanswered == 0)
            post_code(client, MQTT_CLIENT_SUBSCRIBED, 0);
    }
}

static void on_success5(void *context, MQTTAsync_successData5 *data)
{
    answered(context, data != NULL ? (int)data->reasonCode : 0);
}

static void on_success(void *context, MQTTAsync_successData *data)
{
    const struct request *request = context;

    answered(request, request->kind == MQTT_CLIENT_SUBSCRIBED ? data->alt.qos : 0);
}

static void on_not_subscribed5(void *context, MQTTAsync_failureData5 *data)
{
    answered(context, data->reasonCode >= REFUSED ? (int)data->reasonCode : REFUSED);
}

static void on_not_subscribed(void *context, MQTTAsync_failureData *data)
{
    (void)data;
    answered(context, REFUSED);
}

/* Keeps the reason of OpenSSL's text "THREAD:error:CODE:library:function:reason:file:line:…". */
static int on_tls_error(const char *text, size_t len, void *context)
{
    struct mqtt_client *client = context;
    struct bytes rest = {text, len}, field = BYTES_NONE;

    for (int i = 0; i < 6; i++)
        bytes_split(rest, ':', &field, &rest);
    snprintf(client->tls_error, sizeof(client->tls_error), "%.*s", BYTES_ARG(field));
    return 1;
}

struct mqtt_client *mqtt_client_new(const struct settings_mqtt *settings,
                                    struct subscriptions *filters, struct receiver *receiver)
{
    MQTTAsync_init_options init = MQTTAsync_init_options_initializer;
    struct mqtt_client *made = xcalloc(1, sizeof(*made));

    *made = (struct mqtt_client){.settings = settings, .filters = filters, .receiver = receiver};
    if (pipe2(made->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        abort();
    made->unsubscribe = (struct request){made, MQTT_CLIENT_UNSUBSCRIBED, 0};
    made->disconnect = (struct request){made, MQTT_CLIENT_LOST, 0};
    made->keep_alive = (struct request){made, MQTT_CLIENT_ALIVE, 0};
    made->subscribe = xcalloc(subscriptions_count(filters), sizeof(*made->subscribe));
    for (size_t i = 0; i < subscriptions_count(filters); i++)
        made->subscribe[i] = (struct request){made, MQTT_CLIENT_SUBSCRIBED, i};
    init.do_openssl_init = 1;
    MQTTAsync_global_init(&init);
    /* By default the library formats two trace lines for every packet, which takes a quarter of the receive thread's
     * time. */
    MQTTAsync_setTraceLevel(MQTTASYNC_TRACE_ERROR);
    return made;
}

void mqtt_client_free(struct mqtt_client *client)
{
    if (client == NULL)
        return;
    client->remakes = true;
    if (client->handle != NULL)
        MQTTAsync_destroy(&client->handle);
    close(client->pipe[0]);
    close(client->pipe[1]);
    free(client->subscribe);
    free(client);
}

int mqtt_client_fd(const struct mqtt_client *client)
{
    return client->pipe[0];
}

static int library_error(struct error *err, int code)
{
    if (code == MQTTASYNC_SUCCESS)
        return 0;
    return error_set(err, code == MQTTASYNC_DISCONNECTED ? ERR_UNREACHABLE : ERR_USAGE,
                     "the MQTT library: %s", MQTTAsync_strerror(code));
}

/* The old handle is destroyed after the new one is made: paho stops its threads with the last handle. */
static int make_handle(struct mqtt_client *client, const char *uri, int version, struct error *err)
{
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
    MQTTAsync previous = client->handle;
    struct mqtt_client_event stale;
    int code;

    options.MQTTVersion = version;
    options.persistQoS0 = 0;
    receiver_connecting(client->receiver, version);
    client->handle = NULL;
    code = MQTTAsync_createWithOptions(&client->handle, uri, client->settings->client_id,
                                       MQTTCLIENT_PERSISTENCE_USER,
                                       receiver_persistence(client->receiver), &options);
    client->remakes = true;
    if (previous != NULL)
        MQTTAsync_destroy(&previous);
    client->remakes = false;
    client->tls_error[0] = '\0';
    while (mqtt_client_take(client, &stale)) /* events of the old handle */
        ;
    client->version = version;
    if (code != MQTTASYNC_SUCCESS) {
        client->handle = NULL;
        return library_error(err, code);
    }
    MQTTAsync_setCallbacks(client->handle, client->receiver, NULL, receiver_arrived, NULL);
    MQTTAsync_setConnectionLostCallback(client->handle, client, on_lost);
    MQTTAsync_setDisconnected(client->handle, client, on_disconnected);
    return 0;
}

static void add_number(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t value)
{
    MQTTProperty property = {.identifier = code};

    if (MQTTProperty_getType(code) == MQTTPROPERTY_TYPE_TWO_BYTE_INTEGER)
        property.value.integer2 = (unsigned short)(value > UINT16_MAX ? UINT16_MAX : value);
    else
        property.value.integer4 = (unsigned)(value > INT32_MAX ? INT32_MAX : value);
    MQTTProperties_add(properties, &property);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static MQTTAsync_SSLOptions tls_options(struct mqtt_client *client)
{
    const struct settings_mqtt *settings = client->settings;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;

    tls.trustStore = or_null(settings->ca_file);
    tls.keyStore = or_null(settings->cert_file);
    tls.privateKey = or_null(settings->key_file);
    /* Never NULL: OpenSSL would ask at the terminal for the password of an encrypted key. */
    tls.privateKeyPassword = settings->key_password;
    tls.enableServerCertAuth = settings->tls_verify;
    tls.verify = settings->tls_verify;
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = client;
    return tls;
}

static MQTTAsync_connectOptions connect_options(struct mqtt_client *client, int version)
{
    static const MQTTAsync_connectOptions FIVE = MQTTAsync_connectOptions_initializer5;
    static const MQTTAsync_connectOptions THREE = MQTTAsync_connectOptions_initializer;
    const struct settings_mqtt *settings = client->settings;
    MQTTAsync_connectOptions options = version == MQTTVERSION_5 ? FIVE : THREE;

    options.MQTTVersion = version;
    options.cleansession = 0;
    options.cleanstart = 0;
    options.keepAliveInterval = (int)(settings->keepalive_ms / 1000);
    options.connectTimeout = CONNECT_TIMEOUT_S;
    options.username = or_null(settings->username);
    options.password = or_null(settings->password);
    options.context = client;
    if (version == MQTTVERSION_5) {
        options.onSuccess5 = on_connected5;
        options.onFailure5 = on_connect_failed5;
    } else {
        options.onSuccess = on_connected;
        options.onFailure = on_connect_failed;
    }
    return options;
}

static MQTTProperties connect_properties(struct mqtt_client *client)
{
    const struct settings_mqtt *settings = client->settings;
    MQTTProperties properties = MQTTProperties_initializer;

    add_number(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
               settings->session_expiry_ms / 1000);
    add_number(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, settings->receive_maximum);
    add_number(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
               receiver_limit(client->receiver, settings->maximum_packet_size));
    return properties;
}

int mqtt_client_connect(struct mqtt_client *client, const struct endpoint *endpoint, int version,
                        struct error *err)
{
    const struct endpoints_server *server = endpoint->server;
    char *const uris[] = {(char *)endpoint->uri};
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions tls = tls_options(client);
    MQTTAsync_connectOptions options = connect_options(client, version);
    int result = make_handle(client, endpoint->uri, version, err);

    /* The properties are made after the handle: creating the first handle resets paho's heap. */
    MQTTProperties properties = connect_properties(client);

    options.serverURIs = uris;
    options.serverURIcount = 1;
    will.topicName = client->settings->status_topic;
    will.message = "offline";
    will.retained = !server->no_retain;
    will.qos = server->maximum_qos > 0 ? 1 : 0;
    if (will.topicName[0] != '\0')
        options.will = &will;
    if (server->address.tls)
        options.ssl = &tls;
    if (version == MQTTVERSION_5)
        options.connectProperties = &properties;
    if (result == 0)
        result = library_error(err, MQTTAsync_connect(client->handle, &options));
    MQTTProperties_free(&properties);
    return result;
}

/* Returns the code with which a filter is refused here, or 0. CONNACK excludes such filters, and
 * the broker would end the connection. Besides its filter a SUBSCRIBE has at most 12 bytes. */
static int refusal_of(const struct filter *filter, const struct connack *connack)
{
    if (connack->no_wildcards && strpbrk(filter->text, "+#") != NULL)
        return NO_WILDCARDS;
    if (connack->no_shared && filter->shared)
        return NO_SHARED;
    return (int64_t)strlen(filter->text) + 12 > connack->maximum_packet ? PACKET_TOO_LARGE : 0;
}

static MQTTAsync_responseOptions options_of(struct request *request)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;

    options.context = request;
    if (request->client->version == MQTTVERSION_5)
        options.onSuccess5 = on_success5;
    else
        options.onSuccess = on_success;
    return options;
}

static int ask_for(struct mqtt_client *client, size_t index, int maximum_qos)
{
    const struct filter *filter = subscriptions_at(client->filters, index);
    MQTTAsync_responseOptions options = options_of(&client->subscribe[index]);
    int qos = filter->qos < maximum_qos ? filter->qos : maximum_qos;

    if (client->version == MQTTVERSION_5) {
        options.onFailure5 = on_not_subscribed5;
        /* Retain Handling 1 requests retained messages only for a new subscription. A shared one
         * does not allow this. */
        options.subscribeOptions.retainHandling = filter->shared ? 0 : 1;
    } else {
        options.onFailure = on_not_subscribed;
    }
    return MQTTAsync_subscribe(client->handle, filter->text, qos, &options);
}

/* Sends one SUBSCRIBE for each filter. So each filter is answered separately, and no packet
 * exceeds the broker's limit. */
int mqtt_client_subscribe(struct mqtt_client *client, bool all, const struct connack *connack,
                          struct error *err)
{
    int code = MQTTASYNC_SUCCESS;

    client->unanswered = 1; /* one more than sent, until all SUBSCRIBEs are sent */
    for (size_t i = 0; i < subscriptions_count(client->filters) && code == MQTTASYNC_SUCCESS; i++) {
        const struct filter *filter = subscriptions_at(client->filters, i);
        int refusal = refusal_of(filter, connack);

        if (refusal != 0) {
            subscriptions_answer(client->filters, i, refusal);
        } else if (all || filter->granted < 0) {
            client->unanswered++;
            code = ask_for(client, i, connack->maximum_qos);
        }
    }
    if (--client->unanswered == 0)
        post_code(client, MQTT_CLIENT_SUBSCRIBED, 0);
    return library_error(err, code);
}

int mqtt_client_unsubscribe(struct mqtt_client *client, const char *text, struct error *err)
{
    MQTTAsync_responseOptions options = options_of(&client->unsubscribe);

    return library_error(err, MQTTAsync_unsubscribe(client->handle, text, &options));
}

int mqtt_client_disconnect(struct mqtt_client *client, struct error *err)
{
    MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;

    options.context = &client->disconnect;
    if (client->version == MQTTVERSION_5) {
        options.struct_version = 1;
        options.onSuccess5 = on_success5;
    } else {
        options.onSuccess = on_success;
    }
    return library_error(err, MQTTAsync_disconnect(client->handle, &options));
}

void mqtt_client_publish_status(struct mqtt_client *client, const char *status,
                                const struct connack *connack)
{
    const char *topic = client->settings->status_topic;
    size_t size = strlen(topic) + strlen(status) + 8;

    if (topic[0] != '\0' && (int64_t)size <= connack->maximum_packet)
        MQTTAsync_send(client->handle, topic, (int)strlen(status), status, 0, !connack->no_retain,
                       NULL);
}

void mqtt_client_keep_alive(struct mqtt_client *client)
{
    MQTTAsync_responseOptions options = options_of(&client->keep_alive);

    MQTTAsync_unsubscribe(client->handle, "mqtt-bridge/nothing", &options);
}
