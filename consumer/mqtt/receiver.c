#include "consumer/mqtt/receiver.h"

#include "common/base/alloc.h"
#include "common/base/child.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "consumer/mqtt/publish_packet.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDS_MAX        64 /* Subscription Identifiers in one message that are looked at */
#define RECEIVED_3_1_1 "r-"
#define RECEIVED_5     "r5-"
#define DUP            0x08
/* What a resumed session sends first may be repeats. */
#define RESUMED 65535

struct receiver {
    struct spool *spool;
    const struct subscriptions *filters;
    struct stats_slot *slot;
    MQTTClient_persistence persistence;
    size_t possible_repeats_left; /* so many further messages may be repeats of before */
};

/* The broker keeps what has not been acknowledged, and the next start finds the spool as it is. */
static void die(const struct error *err)
{
    log_critical(LOG_PLAIN,
                 "%s: a message can't be stored; ending without acknowledging it, so that the "
                 "broker keeps it",
                 err->text);
    _exit(CHILD_EXIT_FAILED);
}

static bool may_repeat(struct receiver *receiver, const struct spool_message *message, bool dup)
{
    bool resumed = receiver->possible_repeats_left > 0;

    if (resumed)
        receiver->possible_repeats_left--;
    return dup || (resumed && message->qos == 2);
}

static void store(struct receiver *receiver, struct spool_message *message, bool dup)
{
    static const enum stats_counter RECEIVED[] = {STATS_RECEIVED_QOS0, STATS_RECEIVED_QOS1,
                                                  STATS_RECEIVED_QOS2};
    struct spool_recent recent;
    struct error err = {0};

    message->received_us = clock_wall_us();
    if (message->qos > 0 && may_repeat(receiver, message, dup) &&
        spool_find_recent(receiver->spool, message, &recent))
        message->identity = recent.identity;
    if (spool_append(receiver->spool, message, &err) < 0)
        die(&err);
    stats_add(receiver->slot, RECEIVED[message->qos], 1);
    stats_add(receiver->slot, STATS_RECEIVED_BYTES, message->payload.len);
    stats_set(receiver->slot, STATS_LAST_MESSAGE_US, (uint64_t)message->received_us);
}

/* Overlapping filters bring a copy each. */
static bool is_copy(const struct receiver *receiver, struct bytes topic, const uint32_t *ids,
                    size_t ids_len)
{
    return subscriptions_count(receiver->filters) >= 2 && ids_len > 0 &&
           !subscriptions_keep(receiver->filters, topic, ids, ids_len);
}

static size_t ids_of(const MQTTProperties *properties, uint32_t ids[IDS_MAX])
{
    size_t count = 0;

    for (int i = 0; i < properties->count && count < IDS_MAX; i++)
        if (properties->array[i].identifier == MQTTPROPERTY_CODE_SUBSCRIPTION_IDENTIFIER)
            ids[count++] = properties->array[i].value.integer4;
    return count;
}

int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
    struct receiver *receiver = context;
    struct spool_message stored = {
        .qos = message->qos,
        .retained = message->retained != 0,
        .packet_id = (uint16_t)message->msgid,
        .topic = {topic, topic_len > 0 ? (size_t)topic_len : strlen(topic)},
        .payload = {message->payload, (size_t)message->payloadlen},
    };
    uint32_t ids[IDS_MAX];

    if (stored.qos < 2 && /* `put` has those */
        !is_copy(receiver, stored.topic, ids, ids_of(&message->properties, ids)))
        store(receiver, &stored, message->dup != 0);
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

/* Is the key that of a received QoS 2 message, and of which version? */
static bool is_received(const char *key, bool *five)
{
    *five = strncmp(key, RECEIVED_5, strlen(RECEIVED_5)) == 0;
    return *five || strncmp(key, RECEIVED_3_1_1, strlen(RECEIVED_3_1_1)) == 0;
}

static int put(void *handle, char *key, int count, char *buffers[], int lengths[])
{
    struct receiver *receiver = handle;
    struct publish_packet publish;
    uint32_t ids[IDS_MAX];
    bool five;

    if (!is_received(key, &five) || count != 2)
        return 0; /* what we send needs no memory */
    if (!publish_packet_parse(&publish, (struct bytes){buffers[1], (size_t)lengths[1]}, five))
        return 0; /* cannot be: the library has parsed it before */

    unsigned char header = (unsigned char)buffers[0][0];
    bool dup = (header & DUP) != 0;
    struct spool_recent recent;
    struct spool_message message = {.qos = 2,
                                    .retained = (header & 1) != 0,
                                    .packet_id = publish.packet_id,
                                    .topic = publish.topic,
                                    .payload = publish.payload};
    if (dup && spool_find_recent(receiver->spool, &message, &recent) && recent.unreleased)
        return 0;
    if (!is_copy(receiver, publish.topic, ids,
                 publish_packet_ids(publish.properties, ids, IDS_MAX)))
        store(receiver, &message, dup);
    return 0;
}

/* At PUBREL, before PUBCOMP; paho tries the key of each version. */
static int released(void *handle, char *key)
{
    struct receiver *receiver = handle;
    struct error err = {0};
    bool five;

    if (is_received(key, &five) &&
        spool_release(receiver->spool, (uint16_t)atoi(strchr(key, '-') + 1), &err) < 0)
        die(&err);
    return 0;
}

static int open_store(void **handle, const char *client_id, const char *uri, void *context)
{
    (void)client_id;
    (void)uri;
    *handle = context;
    return 0;
}

static int close_store(void *handle)
{
    (void)handle;
    return 0;
}

static int get(void *handle, char *key, char **buffer, int *length)
{
    (void)handle;
    (void)key;
    (void)buffer;
    (void)length;
    return MQTTCLIENT_PERSISTENCE_ERROR;
}

static int keys(void *handle, char ***all, int *count)
{
    (void)handle;
    *all = NULL;
    *count = 0;
    return 0;
}

static int contains_key(void *handle, char *key)
{
    (void)handle;
    (void)key;
    return MQTTCLIENT_PERSISTENCE_ERROR;
}

struct receiver *receiver_new(struct spool *spool, const struct subscriptions *filters,
                              struct stats_slot *slot)
{
    struct receiver *made = xcalloc(1, sizeof(*made));

    *made = (struct receiver){.spool = spool, .filters = filters, .slot = slot};
    made->persistence = (MQTTClient_persistence){.context = made,
                                                 .popen = open_store,
                                                 .pclose = close_store,
                                                 .pput = put,
                                                 .pget = get,
                                                 .premove = released,
                                                 .pkeys = keys,
                                                 .pclear = close_store,
                                                 .pcontainskey = contains_key};
    return made;
}

void receiver_free(struct receiver *receiver)
{
    free(receiver);
}

void receiver_session_goes_on(struct receiver *receiver)
{
    receiver->possible_repeats_left = RESUMED;
}

int64_t receiver_limit(const struct receiver *receiver, int64_t wanted)
{
    int64_t limit = spool_largest_message(receiver->spool);

    return wanted < limit ? wanted : limit;
}

void receiver_session_is_new(struct receiver *receiver)
{
    struct error err = {0};

    receiver->possible_repeats_left = 0;
    if (spool_begin_session(receiver->spool, &err) < 0)
        die(&err);
}

MQTTClient_persistence *receiver_persistence(struct receiver *receiver)
{
    return &receiver->persistence;
}
