#include "consumer/mqtt/mqtt_client.h"

#include "common/base/alloc.h"
#include "consumer/mqtt/paho_usleep.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Main takes events at once and asks for one thing at a time: a handful can be waiting. */
#define MAILBOX_SIZE      32
#define CONNECT_TIMEOUT_S 10
#define REFUSED           0x80 /* SUBACK and CONNACK codes from here on are refusals */

/* The context of one SUBSCRIBE: which filter it is about. */
struct subscription {
    struct mqtt_client *link;
    size_t index;
};

struct mqtt_client {
    const struct settings_mqtt *settings;
    struct subscriptions *filters;
    struct receiver *receiver;
    MQTTAsync client; /* NULL until the first connect */
    const struct server *server;
    int version;
    struct subscription *subscriptions; /* one a filter */
    int event_fd;

    pthread_mutex_t lock; /* for what follows: the library's threads and main */
    struct session_event mailbox[MAILBOX_SIZE];
    size_t first;
    size_t waiting;
    size_t unanswered; /* of the filters */
    int refusal;       /* a filter's code, if one was refused */
    char tls_error[120];
};

static void post(struct mqtt_client *link, const struct session_event *event)
{
    uint64_t one = 1;

    pthread_mutex_lock(&link->lock);
    if (link->waiting == MAILBOX_SIZE)
        abort(); /* main asks for one thing at a time */
    link->mailbox[(link->first + link->waiting++) % MAILBOX_SIZE] = *event;
    pthread_mutex_unlock(&link->lock);
    if (write(link->event_fd, &one, sizeof(one)) < 0)
        abort(); /* an eventfd takes 2^64 - 2 of these */
}

bool mqtt_client_take(struct mqtt_client *link, struct session_event *event)
{
    uint64_t count;
    bool any;

    /* Drained before the mailbox is looked at: a later event makes it readable again. */
    ssize_t ignored = read(link->event_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_lock(&link->lock);
    any = link->waiting > 0;
    if (any) {
        *event = link->mailbox[link->first];
        link->first = (link->first + 1) % MAILBOX_SIZE;
        link->waiting--;
    }
    pthread_mutex_unlock(&link->lock);
    return any;
}

static int64_t number_of(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t otherwise)
{
    if (!MQTTProperties_hasProperty(properties, code))
        return otherwise;
    return (unsigned)MQTTProperties_getNumericValue(properties, code);
}

static void connected(struct mqtt_client *link, bool session_present, MQTTProperties *properties)
{
    struct session_event event = {
        .kind = SESSION_CONNECTED,
        .version = link->version,
        .session_present = session_present,
        .session_expiry_s = number_of(properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, -1),
        .maximum_qos = (int)number_of(properties, MQTTPROPERTY_CODE_MAXIMUM_QOS, 2),
    };

    paho_usleep_skip_naps();
    if (session_present)
        receiver_session_goes_on(link->receiver);
    else
        receiver_session_is_new(link->receiver);
    post(link, &event);
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

static void connect_failed(struct mqtt_client *link, int code, const char *message)
{
    struct session_event event = {
        .kind = SESSION_CONNECT_FAILED, .version = link->version, .code = code > 0 ? code : 0};

    pthread_mutex_lock(&link->lock);
    if (link->tls_error[0] != '\0')
        snprintf(event.text, sizeof(event.text), "TLS: %s", link->tls_error);
    pthread_mutex_unlock(&link->lock);
    if (event.text[0] == '\0' && message != NULL && strstr(message, "timeout") != NULL)
        snprintf(event.text, sizeof(event.text), "no answer in %d s", CONNECT_TIMEOUT_S);
    post(link, &event);
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
    struct mqtt_client *link = context;
    struct session_event event = {.kind = SESSION_LOST, .version = link->version};

    (void)cause; /* always NULL */
    post(link, &event);
}

/* The broker's DISCONNECT; on_lost does not follow it. */
static void on_disconnected(void *context, MQTTProperties *properties, enum MQTTReasonCodes reason)
{
    struct mqtt_client *link = context;
    struct session_event event = {
        .kind = SESSION_LOST, .version = link->version, .code = (int)reason};

    (void)properties;
    post(link, &event);
}

static void answered(void *context, int code)
{
    struct subscription *subscription = context;
    struct mqtt_client *link = subscription->link;
    struct session_event event = {.kind = SESSION_SUBSCRIBED, .version = link->version};
    bool refused = code < 0 || code >= REFUSED;
    bool all;

    subscriptions_granted(link->filters, subscription->index, refused ? FILTER_REFUSED : code);
    pthread_mutex_lock(&link->lock);
    if (refused)
        link->refusal = code;
    event.code = link->refusal;
    /* One that a lost connection left unanswered is answered when the next one cleans up. */
    all = link->unanswered > 0 && --link->unanswered == 0;
    pthread_mutex_unlock(&link->lock);
    if (all)
        post(link, &event);
}

static void on_subscribed5(void *context, MQTTAsync_successData5 *data)
{
    answered(context, (int)data->reasonCode);
}

static void on_subscribed(void *context, MQTTAsync_successData *data)
{
    answered(context, data->alt.qos);
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

static void unsubscribed(void *context)
{
    struct mqtt_client *link = context;
    struct session_event event = {.kind = SESSION_UNSUBSCRIBED, .version = link->version};

    post(link, &event);
}

static void on_unsubscribed5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    unsubscribed(context);
}

static void on_unsubscribed(void *context, MQTTAsync_successData *data)
{
    (void)data;
    unsubscribed(context);
}

static void left(void *context)
{
    struct mqtt_client *link = context;
    struct session_event event = {.kind = SESSION_LEFT, .version = link->version};

    post(link, &event);
}

static void on_left5(void *context, MQTTAsync_successData5 *data)
{
    (void)data;
    left(context);
}

static void on_left(void *context, MQTTAsync_successData *data)
{
    (void)data;
    left(context);
}

/* OpenSSL's "THREAD:error:CODE:library:function:reason:file:line:…": the reason is for people. */
static int on_tls_error(const char *text, size_t len, void *context)
{
    struct mqtt_client *link = context;
    struct bytes rest = {text, len}, field = BYTES_NONE;

    for (int i = 0; i < 6; i++)
        bytes_split(rest, ':', &field, &rest);
    pthread_mutex_lock(&link->lock);
    snprintf(link->tls_error, sizeof(link->tls_error), "%.*s", BYTES_ARG(field));
    pthread_mutex_unlock(&link->lock);
    return 1;
}

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

void mqtt_client_free(struct mqtt_client *link)
{
    if (link == NULL)
        return;
    if (link->client != NULL)
        MQTTAsync_destroy(&link->client);
    pthread_mutex_destroy(&link->lock);
    close(link->event_fd);
    free(link->subscriptions);
    free(link);
}

int mqtt_client_fd(const struct mqtt_client *link)
{
    return link->event_fd;
}

static int library_error(struct error *err, int code)
{
    if (code == MQTTASYNC_SUCCESS)
        return 0;
    return error_set(err, code == MQTTASYNC_DISCONNECTED ? ERR_UNREACHABLE : ERR_USAGE,
                     "the MQTT library: %s", MQTTAsync_strerror(code));
}

/* A handle belongs to one server and one version; the former one goes when the new one is there, since
 * paho stops its threads with the last. */
static int make_client(struct mqtt_client *link, const struct server *server, int version,
                       struct error *err)
{
    MQTTAsync_createOptions options = MQTTAsync_createOptions_initializer5;
    MQTTAsync former = link->client;
    int code;

    if (former != NULL && link->server == server && link->version == version)
        return 0;
    options.MQTTVersion = version;
    options.persistQoS0 = 0;
    link->client = NULL;
    code = MQTTAsync_createWithOptions(&link->client, server->address.uri,
                                       link->settings->client_id, MQTTCLIENT_PERSISTENCE_USER,
                                       receiver_persistence(link->receiver), &options);
    if (former != NULL)
        MQTTAsync_destroy(&former);
    if (code != MQTTASYNC_SUCCESS) {
        link->client = NULL;
        return library_error(err, code);
    }
    link->server = server;
    link->version = version;
    MQTTAsync_setCallbacks(link->client, link->receiver, NULL, receiver_arrived, NULL);
    MQTTAsync_setConnectionLostCallback(link->client, link, on_lost);
    MQTTAsync_setDisconnected(link->client, link, on_disconnected);
    return 0;
}

static void add_number(MQTTProperties *properties, enum MQTTPropertyCodes code, int64_t value)
{
    MQTTProperty property = {.identifier = code};

    if (MQTTProperty_getType(code) == MQTTPROPERTY_TYPE_TWO_BYTE_INTEGER)
        property.value.integer2 = (unsigned short)(value > UINT16_MAX ? UINT16_MAX : value);
    else
        property.value.integer4 = (unsigned)(value > UINT32_MAX ? UINT32_MAX : value);
    MQTTProperties_add(properties, &property);
}

static const char *or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static MQTTAsync_SSLOptions tls_options(struct mqtt_client *link)
{
    const struct settings_mqtt *settings = link->settings;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;

    tls.trustStore = or_null(settings->ca_file);
    tls.keyStore = or_null(settings->cert_file);
    tls.privateKey = or_null(settings->key_file);
    tls.privateKeyPassword = or_null(settings->key_password);
    tls.enableServerCertAuth = settings->tls_verify;
    tls.verify = settings->tls_verify;
    tls.ssl_error_cb = on_tls_error;
    tls.ssl_error_context = link;
    return tls;
}

static MQTTAsync_connectOptions connect_options(struct mqtt_client *link, int version)
{
    static const MQTTAsync_connectOptions FIVE = MQTTAsync_connectOptions_initializer5;
    static const MQTTAsync_connectOptions THREE = MQTTAsync_connectOptions_initializer;
    const struct settings_mqtt *settings = link->settings;
    MQTTAsync_connectOptions options = version == MQTTVERSION_5 ? FIVE : THREE;

    options.MQTTVersion = version;
    options.cleansession = 0;
    options.cleanstart = 0;
    options.keepAliveInterval = (int)(settings->keepalive_ms / 1000);
    options.connectTimeout = CONNECT_TIMEOUT_S;
    options.username = or_null(settings->username);
    options.password = or_null(settings->password);
    options.context = link;
    if (version == MQTTVERSION_5) {
        options.onSuccess5 = on_connected5;
        options.onFailure5 = on_connect_failed5;
    } else {
        options.onSuccess = on_connected;
        options.onFailure = on_connect_failed;
    }
    return options;
}

int mqtt_client_connect(struct mqtt_client *link, const struct server *server, const char *uri,
                        int version, struct error *err)
{
    char *const uris[] = {(char *)uri};
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions tls = tls_options(link);
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTAsync_connectOptions options;
    int result = make_client(link, server, version, err);

    if (result < 0)
        return result;
    options = connect_options(link, version);
    options.serverURIs = uris;
    options.serverURIcount = 1;
    will.topicName = link->settings->status_topic;
    will.message = "offline";
    will.retained = 1;
    will.qos = 1;
    if (will.topicName[0] != '\0')
        options.will = &will;
    if (server->address.tls)
        options.ssl = &tls;
    if (version == MQTTVERSION_5) {
        add_number(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                   link->settings->session_expiry_ms / 1000);
        add_number(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, link->settings->receive_maximum);
        add_number(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE,
                   receiver_limit(link->receiver, link->settings->maximum_packet_size));
        options.connectProperties = &properties;
    }
    pthread_mutex_lock(&link->lock);
    link->tls_error[0] = '\0';
    pthread_mutex_unlock(&link->lock);
    result = library_error(err, MQTTAsync_connect(link->client, &options));
    MQTTProperties_free(&properties);
    return result;
}

/* One SUBSCRIBE a filter: a packet has one Subscription Identifier. */
int mqtt_client_subscribe(struct mqtt_client *link, struct error *err)
{
    bool five = link->version == MQTTVERSION_5;
    int code = MQTTASYNC_SUCCESS;

    pthread_mutex_lock(&link->lock);
    link->unanswered = subscriptions_count(link->filters);
    link->refusal = 0;
    pthread_mutex_unlock(&link->lock);
    for (size_t i = 0; i < subscriptions_count(link->filters) && code == MQTTASYNC_SUCCESS; i++) {
        const struct filter *filter = subscriptions_at(link->filters, i);
        MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
        MQTTProperty id = {.identifier = MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER};

        options.context = &link->subscriptions[i];
        if (five) {
            options.onSuccess5 = on_subscribed5;
            options.onFailure5 = on_not_subscribed5;
            /* Retained messages only for a subscription that is new; a shared one may not ask so. */
            options.subscribeOptions.retainHandling = filter->shared ? 0 : 1;
            id.value.integer4 = filter->id;
            MQTTProperties_add(&options.properties, &id);
        } else {
            options.onSuccess = on_subscribed;
            options.onFailure = on_not_subscribed;
        }
        code = MQTTAsync_subscribe(link->client, filter->text, filter->qos, &options);
        MQTTProperties_free(&options.properties);
    }
    return library_error(err, code);
}

int mqtt_client_unsubscribe_stale(struct mqtt_client *link, struct error *err)
{
    size_t count = subscriptions_stale_count(link->filters);
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;
    char **texts = xcalloc(count, sizeof(*texts));

    for (size_t i = 0; i < count; i++)
        texts[i] = xstrdup(subscriptions_stale_at(link->filters, i));
    options.context = link;
    if (link->version == MQTTVERSION_5)
        options.onSuccess5 = on_unsubscribed5;
    else
        options.onSuccess = on_unsubscribed;
    int code = MQTTAsync_unsubscribeMany(link->client, (int)count, texts, &options);
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
    return library_error(err, code);
}

int mqtt_client_disconnect(struct mqtt_client *link, struct error *err)
{
    MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer;

    options.context = link;
    if (link->version == MQTTVERSION_5) {
        options.struct_version = 1;
        options.onSuccess5 = on_left5;
    } else {
        options.onSuccess = on_left;
    }
    return library_error(err, MQTTAsync_disconnect(link->client, &options));
}

void mqtt_client_publish_status(struct mqtt_client *link, const char *status)
{
    const char *topic = link->settings->status_topic;

    if (topic[0] != '\0')
        MQTTAsync_send(link->client, topic, (int)strlen(status), status, 0, 1, NULL);
}
