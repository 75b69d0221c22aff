#include "consumer/mqtt/receiver.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/runtime/child.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACKET_IDS     65536 /* 0 is no packet id */
#define RECEIVED_3_1_1 "r-"
#define RECEIVED_5     "r5-"
#define KEY_SIZE       16
#define DUP            0x08
/* The most bytes of a PUBLISH besides topic, payload and properties. */
#define PUBLISH_HEAD 10

struct receiver {
    struct spool *spool;
    const struct subscriptions *filters;
    struct stats_slot *slot;
    MQTTClient_persistence persistence;
    int version; /* the handle's MQTT version */
    bool resumed;
    uint64_t stored;    /* sequence of the last message */
    uint64_t gap_after; /* the sequence behind which `gap` numbers were skipped last */
    uint64_t gap;
    bool *seen_ids; /* a message came under this packet id in this connection */

    bool watches_topics; /* looks for a topic that no filter matches */
};

/* Ends the process. The broker keeps the unacknowledged message, and the next start recovers the
 * spool. */
static void die(const struct error *err)
{
    log_critical(LOG_PLAIN,
                 "%s: a message can't be stored; ending without acknowledging it, so that the "
                 "broker keeps it",
                 err->text);
    _exit(CHILD_EXIT_FAILED);
}

/* True if the message can be a repeat. Only then is it compared with the last one, which takes a
 * checksum. */
static bool may_repeat(const struct receiver *receiver, const struct record *message, bool dup)
{
    return message->qos > 0 &&
           (dup || (receiver->resumed && !receiver->seen_ids[message->packet_id]));
}

static bool is_repeat(const struct receiver *receiver, bool dup, const struct spool_recent *recent)
{
    uint64_t skipped = recent->identity <= receiver->gap_after ? receiver->gap : 0;

    return dup || receiver->stored + 1 - skipped - recent->identity < PACKET_IDS - 1;
}

/* Logs the first topic that no filter matches. The message is stored nevertheless, since it will
 * be acknowledged. */
static void watch_topic(struct receiver *receiver, struct bytes topic)
{
    if (subscriptions_match(receiver->filters, topic))
        return;
    receiver->watches_topics = false;
    log_warning(LOG_WITH(log_bytes("topic", topic)),
                "Message on \"%.*s\" matches no filter of [mqtt] topics: if more such come, name "
                "the filter that brings them in [mqtt] former_topics",
                BYTES_ARG(topic));
}

static void store(struct receiver *receiver, struct record *message, bool dup)
{
    static const enum stats_counter RECEIVED[] = {STATS_RECEIVED_QOS0, STATS_RECEIVED_QOS1,
                                                  STATS_RECEIVED_QOS2};
    struct spool_recent recent;
    struct error err = {0};

    if (receiver->watches_topics)
        watch_topic(receiver, message->topic);
    if (may_repeat(receiver, message, dup) &&
        spool_find_recent(receiver->spool, message, &recent)) {
        if (dup && recent.unreleased)
            return;
        if (is_repeat(receiver, dup, &recent))
            message->identity = recent.identity;
    }
    message->received_us = clock_wall_us();
    if (spool_append(receiver->spool, message, &err) < 0)
        die(&err);
    if (message->sequence > receiver->stored + 1) {
        receiver->gap_after = receiver->stored;
        receiver->gap = message->sequence - receiver->stored - 1;
    }
    receiver->stored = message->sequence;
    receiver->seen_ids[message->packet_id] = true;
    stats_add(receiver->slot, RECEIVED[message->qos], 1);
    stats_add(receiver->slot, STATS_RECEIVED_BYTES, message->payload.len);
    stats_set(receiver->slot, STATS_LAST_MESSAGE_US, (uint64_t)message->received_us);
}

int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message)
{
    struct record stored = {
        .qos = message->qos,
        .retained = message->retained != 0,
        .packet_id = (uint16_t)message->msgid,
        .topic = {topic, topic_len > 0 ? (size_t)topic_len : strlen(topic)},
        .payload = {message->payload, (size_t)message->payloadlen},
    };

    if (stored.qos < 2) /* `put` stores QoS 2 */
        store(context, &stored, message->dup != 0);
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

/* True if the key belongs to a received QoS 2 message. *five tells the MQTT version. */
static bool is_received(const char *key, bool *five)
{
    *five = strncmp(key, RECEIVED_5, strlen(RECEIVED_5)) == 0;
    return *five || strncmp(key, RECEIVED_3_1_1, strlen(RECEIVED_3_1_1)) == 0;
}

static uint16_t packet_id_of(const char *key)
{
    return (uint16_t)atoi(strchr(key, '-') + 1);
}

static int put(void *handle, char *key, int count, char *buffers[], int lengths[])
{
    struct record message;
    struct error err = {0};
    bool five;

    if (!is_received(key, &five))
        return 0; /* sent messages are not stored */
    if (count != 2 ||
        !receiver_parse_publish(&message, (struct bytes){buffers[1], (size_t)lengths[1]}, five)) {
        error_set(&err, ERR_FORMAT, "the MQTT library gave a QoS 2 message that can't be read");
        die(&err);
    }
    unsigned char header = (unsigned char)buffers[0][0];
    message.retained = (header & 1) != 0;
    store(handle, &message, (header & DUP) != 0);
    return 0;
}

/* Called at PUBREL, and for each stored id when the broker has no session; paho tries the keys of both versions. */
static int released(void *handle, char *key)
{
    struct receiver *receiver = handle;
    struct error err = {0};
    bool five;

    if (is_received(key, &five) && spool_release(receiver->spool, packet_id_of(key), &err) < 0)
        die(&err);
    return 0;
}

/* Returns memory from paho's allocator, since paho frees it. */
static void *give(size_t size)
{
    void *given = MQTTAsync_malloc(size);

    if (given == NULL)
        abort();
    return given;
}

static int keys(void *handle, char ***all, int *count)
{
    struct receiver *receiver = handle;
    uint16_t *ids = xcalloc(PACKET_IDS, sizeof(*ids));
    size_t len = spool_unreleased(receiver->spool, ids, PACKET_IDS);

    *all = len > 0 ? give(len * sizeof(**all)) : NULL;
    *count = (int)len;
    for (size_t i = 0; i < len; i++) {
        (*all)[i] = give(KEY_SIZE);
        snprintf((*all)[i], KEY_SIZE, "%s%d", receiver->version == 5 ? RECEIVED_5 : RECEIVED_3_1_1,
                 ids[i]);
    }
    free(ids);
    return 0;
}

static int get(void *handle, char *key, char **buffer, int *length)
{
    bool five;

    (void)handle;
    if (!is_received(key, &five))
        return MQTTCLIENT_PERSISTENCE_ERROR;
    *buffer = give(RECEIVER_STUB_MAX);
    *length = (int)receiver_make_stub((unsigned char *)*buffer, packet_id_of(key), five);
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

static int contains_key(void *handle, char *key)
{
    (void)handle;
    (void)key;
    return MQTTCLIENT_PERSISTENCE_ERROR;
}

MQTTClient_persistence *receiver_persistence(struct receiver *receiver)
{
    return &receiver->persistence;
}

struct receiver *receiver_new(struct spool *spool, const struct subscriptions *filters,
                              struct stats_slot *slot)
{
    struct receiver *made = xcalloc(1, sizeof(*made));

    *made = (struct receiver){.spool = spool, .filters = filters, .slot = slot};
    made->seen_ids = xcalloc(PACKET_IDS, sizeof(*made->seen_ids));
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
    if (receiver == NULL)
        return;
    free(receiver->seen_ids);
    free(receiver);
}

int64_t receiver_limit(const struct receiver *receiver, int64_t wanted)
{
    int64_t limit = spool_largest_message(receiver->spool) + PUBLISH_HEAD;

    return wanted < limit ? wanted : limit;
}

void receiver_connecting(struct receiver *receiver, int version)
{
    struct spool_state state;

    spool_state(receiver->spool, &state);
    receiver->stored = state.last_sequence;
    receiver->version = version;
    receiver->watches_topics = !subscriptions_has_session(receiver->filters);
    memset(receiver->seen_ids, 0, PACKET_IDS * sizeof(*receiver->seen_ids));
}

void receiver_connected(struct receiver *receiver, bool session_present)
{
    struct error err = {0};

    receiver->resumed = session_present;
    receiver->watches_topics = receiver->watches_topics && session_present;
    if (!session_present && spool_begin_session(receiver->spool, &err) < 0)
        die(&err);
}

static bool take(struct bytes *rest, size_t len, struct bytes *taken)
{
    if (rest->len < len)
        return false;
    *taken = bytes_slice(*rest, 0, len);
    *rest = bytes_slice(*rest, len, rest->len);
    return true;
}

static bool take_two_bytes(struct bytes *rest, uint16_t *value)
{
    struct bytes two;

    if (!take(rest, 2, &two))
        return false;
    *value = (uint16_t)((unsigned char)two.data[0] << 8 | (unsigned char)two.data[1]);
    return true;
}

/* Takes a Variable Byte Integer: seven bits a byte, the lowest first, at most four bytes. */
static bool take_variable(struct bytes *rest, uint32_t *value)
{
    struct bytes one;

    *value = 0;
    for (int shift = 0; shift < 28; shift += 7) {
        if (!take(rest, 1, &one))
            return false;
        *value |= (uint32_t)(one.data[0] & 0x7f) << shift;
        if ((one.data[0] & 0x80) == 0)
            return true;
    }
    return false;
}

bool receiver_parse_publish(struct record *message, struct bytes packet, bool five)
{
    struct bytes rest = packet, properties;
    uint16_t topic_len;
    uint32_t properties_len;

    *message = (struct record){.qos = 2};
    if (!take_two_bytes(&rest, &topic_len) || !take(&rest, topic_len, &message->topic) ||
        !take_two_bytes(&rest, &message->packet_id))
        return false;
    if (five &&
        (!take_variable(&rest, &properties_len) || !take(&rest, properties_len, &properties)))
        return false;
    message->payload = rest;
    return true;
}

size_t receiver_make_stub(unsigned char stub[RECEIVER_STUB_MAX], uint16_t packet_id, bool five)
{
    const unsigned char bytes[RECEIVER_STUB_MAX] = {
        0x34, five ? 6 : 5, 0, 1, '-', (unsigned char)(packet_id >> 8), (unsigned char)packet_id,
        0};

    for (size_t i = 0; i < sizeof(bytes); i++)
        stub[i] = bytes[i];
    return five ? 8 : 7;
}
