/* What an MQTT subscriber costs at least: paho's MQTTAsync with the consumer's session settings, and a
 * callback that counts.
 *
 *     build/tests/bench/raw_subscriber PORT CLIENT_ID FILTER COUNT       at 127.0.0.1
 *
 * COUNT 0: makes the session, in which the broker keeps what is published from then on, and ends. Else prints "ready"
 * when subscribed and, COUNT messages later, {"messages": …, "seconds": …} between the first and the last. Then it
 * waits to be ended, so that its CPU time can be read. */
#include "common/base/clock.h"

#include <MQTTAsync.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The defaults of [mqtt]. */
#define SESSION_EXPIRY_S    86400
#define RECEIVE_MAXIMUM     100
#define MAXIMUM_PACKET_SIZE (16 * 1024 * 1024)
#define KEEPALIVE_S         30

struct subscriber {
    size_t wanted;
    size_t count;
    int64_t first_us;
    int64_t last_us;
    sem_t step; /* connected, subscribed, disconnected */
    sem_t complete;
};

static _Noreturn void die(const char *what, int code)
{
    fprintf(stderr, "raw_subscriber: %s: %s\n", what, MQTTAsync_strerror(code));
    exit(1);
}

static int arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
    struct subscriber *subscriber = context;

    (void)topic_len;
    if (++subscriber->count == 1)
        subscriber->first_us = clock_monotonic_us();
    if (subscriber->count == subscriber->wanted) {
        subscriber->last_us = clock_monotonic_us();
        sem_post(&subscriber->complete);
    }
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void on_success(void *context, MQTTAsync_successData5 *data)
{
    struct subscriber *subscriber = context;

    (void)data;
    sem_post(&subscriber->step);
}

static void on_failure(void *context, MQTTAsync_failureData5 *data)
{
    (void)context;
    die("refused", data->code);
}

static void add_number(MQTTProperties *properties, enum MQTTPropertyCodes code, unsigned value)
{
    MQTTProperty property = {.identifier = code};

    if (MQTTProperty_getType(code) == MQTTPROPERTY_TYPE_TWO_BYTE_INTEGER)
        property.value.integer2 = (unsigned short)value;
    else
        property.value.integer4 = value;
    MQTTProperties_add(properties, &property);
}

static MQTTAsync join(struct subscriber *subscriber, const char *port, const char *client_id)
{
    MQTTAsync_createOptions create = MQTTAsync_createOptions_initializer5;
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
    MQTTProperties properties = MQTTProperties_initializer;
    MQTTAsync client;
    char uri[64];

    snprintf(uri, sizeof(uri), "tcp://127.0.0.1:%s", port);
    int code = MQTTAsync_createWithOptions(&client, uri, client_id, MQTTCLIENT_PERSISTENCE_NONE,
                                           NULL, &create);
    if (code != MQTTASYNC_SUCCESS)
        die("create", code);
    MQTTAsync_setCallbacks(client, subscriber, NULL, arrived, NULL);
    add_number(&properties, MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL, SESSION_EXPIRY_S);
    add_number(&properties, MQTTPROPERTY_CODE_RECEIVE_MAXIMUM, RECEIVE_MAXIMUM);
    add_number(&properties, MQTTPROPERTY_CODE_MAXIMUM_PACKET_SIZE, MAXIMUM_PACKET_SIZE);
    options.cleanstart = 0;
    options.keepAliveInterval = KEEPALIVE_S;
    options.connectProperties = &properties;
    options.onSuccess5 = on_success;
    options.onFailure5 = on_failure;
    options.context = subscriber;
    code = MQTTAsync_connect(client, &options);
    if (code != MQTTASYNC_SUCCESS)
        die("connect", code);
    sem_wait(&subscriber->step);
    MQTTProperties_free(&properties);
    return client;
}

static void subscribe(MQTTAsync client, struct subscriber *subscriber, const char *filter)
{
    MQTTAsync_responseOptions options = MQTTAsync_responseOptions_initializer;

    options.onSuccess5 = on_success;
    options.onFailure5 = on_failure;
    options.context = subscriber;
    options.subscribeOptions.retainHandling = 1;
    int code = MQTTAsync_subscribe(client, filter, 1, &options);
    if (code != MQTTASYNC_SUCCESS)
        die("subscribe", code);
    sem_wait(&subscriber->step);
}

/* In good order: every acknowledgement has left, so nothing is sent again next time. */
static void leave(MQTTAsync client, struct subscriber *subscriber)
{
    MQTTAsync_disconnectOptions options = MQTTAsync_disconnectOptions_initializer5;

    options.onSuccess5 = on_success;
    options.context = subscriber;
    options.timeout = 1000;
    if (MQTTAsync_disconnect(client, &options) == MQTTASYNC_SUCCESS)
        sem_wait(&subscriber->step);
}

int main(int argc, char **argv)
{
    struct subscriber subscriber = {0};

    if (argc != 5) {
        fprintf(stderr, "usage: raw_subscriber PORT CLIENT_ID FILTER COUNT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    subscriber.wanted = strtoul(argv[4], NULL, 10);
    sem_init(&subscriber.step, 0, 0);
    sem_init(&subscriber.complete, 0, 0);
    MQTTAsync client = join(&subscriber, argv[1], argv[2]);
    subscribe(client, &subscriber, argv[3]);
    if (subscriber.wanted > 0) {
        puts("ready");
        sem_wait(&subscriber.complete);
    }
    leave(client, &subscriber);
    if (subscriber.wanted > 0) {
        printf("{\"messages\": %zu, \"seconds\": %.6f}\n", subscriber.count,
               (double)(subscriber.last_us - subscriber.first_us) / 1e6);
        pause();
    }
    MQTTAsync_destroy(&client);
    return 0;
}
