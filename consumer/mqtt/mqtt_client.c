#include "consumer/mqtt/mqtt_client.h"

#include "common/base/alloc.h"
#include "consumer/mqtt/paho_usleep.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Main takes events at once and asks for one thing at a time: a handful can be waiting. */
#define MAILBOX_SIZE      32
#define CONNECT_TIMEOUT_S 10
#define DESCRIPTORS_MAX   256  /* this process has some dozens */
#define REFUSED           0x80 /* SUBACK and CONNACK codes from here on are refusals */
#define PACKET_TOO_LARGE  0x95
#define NO_SHARED         0x9e
#define NO_WILDCARDS      0xa2

/* The context of a SUBSCRIBE. */
struct subscription {
    struct mqtt_client *client;
    size_t index; /* of the filter */
};

struct mqtt_client {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct receiver *receiver;
    MQTTAsync handle; /* NULL until the first connect */
    int version;
    bool remakes; /* what the former handle has left unanswered is answered now */
    struct subscription *subscriptions; /* one a filter */
    in_port_t port;                     /* of the broker, in network order */
    int event_fd;

    pthread_mutex_t lock; /* for what follows: the library's threads and main */
    struct session_event mailbox[MAILBOX_SIZE];
    size_t first;
    size_t waiting;
    size_t unanswered; /* SUBSCRIBEs */
    int codes[MQTT_UNSUBSCRIBE_MAX];
    char tls_error[120];
};

static void post(struct mqtt_client *client, const struct session_event *event)
{
    uint64_t one = 1;

    pthread_mutex_lock(&client->lock);
    if (client->waiting == MAILBOX_SIZE)
        abort(); /* main asks for one thing at a time */
    client->mailbox[(client->first + client->waiting++) % MAILBOX_SIZE] = *event;
    pthread_mutex_unlock(&client->lock);
    if (write(client->event_fd, &one, sizeof(one)) < 0)
        abort(); /* an eventfd takes 2^64 - 2 of these */
}

static void post_kind(struct mqtt_client *client, enum session_event_kind kind)
{
    struct session_event event = {.kind = kind, .version = client->version};

    post(client, &event);
}

bool mqtt_client_take(struct mqtt_client *client, struct session_event *event)
{
    uint64_t count;
    bool any;

    /* Drained before the mailbox is looked at: a later event makes it readable again. */
    ssize_t ignored = read(client->event_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_lock(&client->lock);
    any = client->waiting > 0;
    if (any) {
        *event = client->mailbox[client->first];
        client->first = (client->first + 1) % MAILBOX_SIZE;
        client->waiting--;
    }
    pthread_mutex_unlock(&client->lock);
    return any;
}

/* What the library tells ------------------------------------------------------------------------- */

static int64_t number_of(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t otherwise)
{
    if (!MQTTProperties_hasProperty(properties, code))
        return otherwise;
    return (unsigned)MQTTProperties_getNumericValue(properties, code);
}

static void connected(struct mqtt_client *client, bool session_present, MQTTProperties *properties)
{
    struct session_event event = {.kind = SESSION_CONNECTED, .version = client->version};

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
    paho_usleep_skip_naps();
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
    struct session_event event = {
        .kind = SESSION_CONNECT_FAILED, .version = client->version, .code = code > 0 ? code : 0};

    /* Its words for a connection that was not made, TCP's or TLS's; NULL: at once. */
    event.unsent = message == NULL || strcmp(message, "TCP/TLS connect failure") == 0;
    pthread_mutex_lock(&client->lock);
    if (client->tls_error[0] != '\0')
        snprintf(event.text, sizeof(event.text), "TLS: %s", client->tls_error);
    pthread_mutex_unlock(&client->lock);
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
    post_kind(context, SESSION_LOST);
}

/* The broker's DISCONNECT; on_lost does not follow it. */
static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    struct mqtt_client *client = context;
    struct session_event event = {
        .kind = SESSION_LOST, .version = client->version, .code = (int)reason};
    MQTTProperty *said = MQTTProperties_getProperty(properties, MQTTPROPERTY_CODE_REASON_STRING);

    if (said != NULL)
        snprintf(event.text, sizeof(event.text), "%.*s", said->value.data.len,
                 said->value.data.data);
    post(client, &event);
}

static void subscribed(void *context, int code)
{
    const struct subscription *subscription = context;
    struct mqtt_client *client = subscription->client;
    bool all;

    if (client->remakes)
        return;
    subscriptions_answer(client->filters, subscription->index, code);
    pthread_mutex_lock(&client->lock);
    all = --client->unanswered == 0;
    pthread_mutex_unlock(&client->lock);
    if (all)
        post_kind(client, SESSION_SUBSCRIBED);
}

static void on_subscribed5(void *context, MQTTAsync_successData5 *data)
{
    subscribed(context, (int)data->reasonCode);
}

static void on_subscribed(void *context, MQTTAsync_successData *data)
{
    subscribed(context, data->alt.qos);
}

static void on_not_subscribed5(void *context, MQTTAsync_failureData5 *data)
{
    subscribed(context, data->reasonCode >= REFUSED ? (int)data->reasonCode : REFUSED);
}

static void on_not_subscribed(void *context, MQTTAsync_failureData *data)
{
    (void)data;
    subscribed(context, REFUSED);
}

static void on_unsubscribed5(void *context, MQTTAsync_successData5 *data)
{
    struct mqtt_client *client = context;
    int count = data->alt.unsub.reasonCodeCount;

    pthread_mutex_lock(&client->lock);
    client->codes[0] = (int)data->reasonCode;
    for (int i = 0; i < count && i < MQTT_UNSUBSCRIBE_MAX && count > 1; i++)
        client->codes[i] = (int)data->alt.unsub.reasonCodes[i];
    pthread_mutex_unlock(&client->lock);
    post_kind(client, SESSION_UNSUBSCRIBED);
}

static void on_unsubscribed(void *context, MQTTAsync_successData *data)
{
    (void)data;
    post_kind(context, SESSION_UNSUBSCRIBED);
}

static void on_left5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    post_kind(context, SESSION_LEFT);
}

static void on_left(void *context, MQTTAsync_successData *data)
{
    (void)data;
    post_kind(context, SESSION_LEFT);
}

/* OpenSSL's "THREAD:error:CODE:library:function:reason:file:line:…": the reason is for people. */
static int on_tls_error(const char *text, size_t len, void *context)
{
    struct mqtt_client *client = context;
    struct bytes rest = {text, len}, field = BYTES_NONE;

    for (int i = 0; i < 6; i++)
        bytes_split(rest, ':', &field, &rest);
    pthread_mutex_lock(&client->lock);
    snprintf(client->tls_error, sizeof(client->tls_error), "%.*s", BYTES_ARG(field));
    pthread_mutex_unlock(&client->lock);
    return 1;
}

/* The handle -------------------------------------------------------------------------------------- */

struct mqtt_client *mqtt_client_new(const struct settings_mqtt *settings,
                                    struct subscriptions *filters, struct receiver *receiver)
{
    MQTTAsync_init_options init = MQTTAsync_init_options_initializer;
    struct mqtt_client *made = xcalloc(1, sizeof(*made));

    *made = (struct mqtt_client){.settings = settings, .filters = filters, .receiver = receiver};
    made->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made->event_fd < 0)
        abort();
    pthread_mutex_init(&made->lock, NULL);
    made->subscriptions = xcalloc(subscriptions_count(filters), sizeof(*made->subscriptions));
    for (size_t i = 0; i < subscriptions_count(filters); i++)
        made->subscriptions[i] = (struct subscription){made, i};
    init.do_openssl_init = 1;
    MQTTAsync_global_init(&init);
    /* By default two lines are formatted for every packet, for a trace that nobody reads: a quarter of
     * the receive thread's time. */
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
    pthread_mutex_destroy(&client->lock);
    close(client->event_fd);
    free(client->subscriptions);
    free(client);
}

int mqtt_client_fd(const struct mqtt_client *client)
{
    return client->event_fd;
}

static int library_error(struct error *err, int code)
{
    if (code == MQTTASYNC_SUCCESS)
        return 0;
    return error_set(err, code == MQTTASYNC_DISCONNECTED ? ERR_UNREACHABLE : ERR_USAGE,
                     "the MQTT library: %s", MQTTAsync_strerror(code));
}

/* The former one goes when the new one is there, since paho stops its threads with the last. */
static int make_handle(struct mqtt_client *client, const char *uri, int version, struct error *err)
{
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
    MQTTAsync former = client->handle;
    int code;

    options.MQTTVersion = version;
    options.persistQoS0 = 0;
    receiver_connecting(client->receiver, version);
    client->handle = NULL;
    code = MQTTAsync_createWithOptions(&client->handle, uri, client->settings->client_id,
                                       MQTTCLIENT_PERSISTENCE_USER,
                                       receiver_persistence(client->receiver), &options);
    pthread_mutex_lock(&client->lock);
    client->tls_error[0] = '\0';
    pthread_mutex_unlock(&client->lock);
    client->remakes = true;
    if (former != NULL)
        MQTTAsync_destroy(&former);
    client->remakes = false;
    pthread_mutex_lock(&client->lock);
    client->waiting = 0; /* what the former handle told is of no use for this one */
    pthread_mutex_unlock(&client->lock);
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

/* Requests ---------------------------------------------------------------------------------------- */

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
    tls.privateKeyPassword = or_null(settings->key_password);
    tls.enableServerCertAuth = settings->tls_verify;
    tls.verify = settings->tls_verify;
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = client;
    return tls;
}

static MQTTAsync_connectOptions connect_options(struct mqtt_client *client,
                                                const struct server *server, int version)
{
    static const MQTTAsync_connectOptions FIVE = MQTTAsync_connectOptions_initializer5;
    static const MQTTAsync_connectOptions THREE = MQTTAsync_connectOptions_initializer;
    const struct settings_mqtt *settings = client->settings;
    MQTTAsync_connectOptions options = version == MQTTVERSION_5 ? FIVE : THREE;

    options.MQTTVersion = version;
    options.cleansession = 0;
    options.cleanstart = 0;
    options.keepAliveInterval = (int)(settings->keepalive_ms / 1000);
    if (server->keep_alive_s > 0 && server->keep_alive_s < options.keepAliveInterval)
        options.keepAliveInterval = server->keep_alive_s;
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
    const struct server *server = endpoint->server;
    char *const uris[] = {(char *)endpoint->uri};
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions tls = tls_options(client);
    MQTTAsync_connectOptions options = connect_options(client, server, version);
    int result = make_handle(client, endpoint->uri, version, err);
    /* Not before: the first handle makes the library forget what it has allocated. */
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
    client->port = htons((uint16_t)atoi(server->address.port));
    if (result == 0)
        result = library_error(err, MQTTAsync_connect(client->handle, &options));
    MQTTProperties_free(&properties);
    return result;
}

/* What the broker has said it can't have must not be sent: it would end the connection. 0: nothing is against
 * it. A SUBSCRIBE has at most 12 bytes beside its filter. */
static int refusal_of(const struct filter *filter, const struct connack *connack)
{
    if (connack->no_wildcards && strpbrk(filter->text, "+#") != NULL)
        return NO_WILDCARDS;
    if (connack->no_shared && filter->shared)
        return NO_SHARED;
    return (int64_t)strlen(filter->text) + 12 > connack->maximum_packet ? PACKET_TOO_LARGE : 0;
}

static int ask_for(struct mqtt_client *client, size_t index, int maximum_qos)
{
    const struct filter *filter = subscriptions_at(client->filters, index);
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    int qos = filter->qos < maximum_qos ? filter->qos : maximum_qos;

    options.context = &client->subscriptions[index];
    if (client->version == MQTTVERSION_5) {
        options.onSuccess5 = on_subscribed5;
        options.onFailure5 = on_not_subscribed5;
        /* Retained messages only for a subscription that is new; a shared one may not ask so. */
        options.subscribeOptions.retainHandling = filter->shared ? 0 : 1;
    } else {
        options.onSuccess = on_subscribed;
        options.onFailure = on_not_subscribed;
    }
    return MQTTAsync_subscribe(client->handle, filter->text, qos, &options);
}

/* One SUBSCRIBE a filter: each has an answer of its own, and none is larger than the broker takes. */
int mqtt_client_subscribe(struct mqtt_client *client, bool all, const struct connack *connack,
                          struct error *err)
{
    size_t count = subscriptions_count(client->filters);
    bool *due = xcalloc(count, sizeof(*due));
    int code = MQTTASYNC_SUCCESS;
    size_t asked = 0;

    for (size_t i = 0; i < count; i++) {
        const struct filter *filter = subscriptions_at(client->filters, i);
        int refusal = refusal_of(filter, connack);

        if (refusal != 0)
            subscriptions_answer(client->filters, i, refusal);
        due[i] = refusal == 0 && (all || filter->state != FILTER_GRANTED);
        asked += due[i];
    }
    pthread_mutex_lock(&client->lock);
    client->unanswered = asked;
    pthread_mutex_unlock(&client->lock);
    for (size_t i = 0; i < count && code == MQTTASYNC_SUCCESS; i++)
        if (due[i])
            code = ask_for(client, i, connack->maximum_qos);
    free(due);
    if (asked == 0)
        post_kind(client, SESSION_SUBSCRIBED);
    return library_error(err, code);
}

int mqtt_client_unsubscribe(struct mqtt_client *client, const char *const *texts, size_t count,
                            struct error *err)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;

    memset(client->codes, 0, sizeof(client->codes));
    options.context = client;
    if (client->version == MQTTVERSION_5)
        options.onSuccess5 = on_unsubscribed5;
    else
        options.onSuccess = on_unsubscribed;
    return library_error(
        err, MQTTAsync_unsubscribeMany(client->handle, (int)count, (char *const *)texts, &options));
}

int mqtt_client_unsubscribed(const struct mqtt_client *client, size_t index)
{
    return client->codes[index];
}

int mqtt_client_disconnect(struct mqtt_client *client, struct error *err)
{
    MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;

    options.context = client;
    if (client->version == MQTTVERSION_5) {
        options.struct_version = 1;
        options.onSuccess5 = on_left5;
    } else {
        options.onSuccess = on_left;
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

void mqtt_client_show_life(struct mqtt_client *client)
{
    MQTTAsync_unsubscribe(client->handle, "$mqtt-bridge/nothing", NULL);
}

static bool goes_to(int fd, in_port_t port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } peer = {0};
    socklen_t size = sizeof(peer);

    if (getpeername(fd, &peer.any, &size) < 0)
        return false;
    return (peer.any.sa_family == AF_INET && peer.ipv4.sin_port == port) ||
           (peer.any.sa_family == AF_INET6 && peer.ipv6.sin6_port == port);
}

/* The library does not say which socket is its own: all of ours that go to the broker's port are counted. */
uint64_t mqtt_client_bytes_received(const struct mqtt_client *client)
{
    uint64_t bytes = 0;

    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        struct tcp_info info = {0};
        socklen_t size = sizeof(info);

        if (goes_to(fd, client->port) && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
            bytes += info.tcpi_bytes_received;
    }
    return bytes;
}
