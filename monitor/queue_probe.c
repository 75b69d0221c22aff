#include "monitor/queue_probe.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/redis_connect.h"
#include "common/wire/dsn.h"

#include <stdlib.h>
#include <string.h>

#define CALL(probe, err, ...)                                                                      \
    call((probe), (const struct bytes[]){__VA_ARGS__},                                             \
         sizeof((const struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes), (err))

struct queue_probe {
    struct dsn_redis dsn;
    struct redis *redis;
    char *delayed_set;
    int64_t limit_ms;
};

static const struct queue_numbers NUMBERS_UNKNOWN = {-1, -1, -1, -1};

int queue_probe_new(struct queue_probe **probe, const struct settings_transport *transport,
                    int64_t limit_ms, struct error *err)
{
    struct queue_probe *made = xcalloc(1, sizeof *made);
    struct buf place = {0};

    if (dsn_redis_parse(&made->dsn, transport->dsn, err) < 0) {
        free(made);
        return error_wrap(err, "[transport:%s] dsn", transport->name);
    }
    dsn_redacted(&place, transport->dsn);
    made->redis = redis_new(buf_text(&place), limit_ms, NULL, NULL);
    made->limit_ms = limit_ms;
    made->delayed_set = xasprintf("%s__queue", made->dsn.stream);
    buf_free(&place);
    *probe = made;
    return 0;
}

void queue_probe_free(struct queue_probe *probe)
{
    if (probe == NULL)
        return;
    redis_free(probe->redis);
    dsn_redis_free(&probe->dsn);
    free(probe->delayed_set);
    free(probe);
}

static redisReply *call(struct queue_probe *probe, const struct bytes *arguments, size_t count,
                        struct error *err)
{
    return redis_call(probe->redis, arguments, count, err);
}

/* A number, or -1 for nil and whatever else stands there. */
static int64_t number_of(const redisReply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
}

static int ask_number(struct queue_probe *probe, const char *command, const char *key,
                      int64_t *number, struct error *err)
{
    redisReply *reply = CALL(probe, err, bytes_of(command), bytes_of(key));

    if (reply == NULL)
        return -(int)err->code;
    *number = number_of(reply);
    redis_reply_free(reply);
    return 0;
}

/* A map as RESP2 has it: name, value, name, value. */
static const redisReply *member(const redisReply *map, const char *name)
{
    for (size_t i = 0; i + 1 < map->elements; i += 2) {
        if (redis_is_string(map->element[i]) && bytes_equal_text(redis_text(map->element[i]), name))
            return map->element[i + 1];
    }
    return NULL;
}

static const redisReply *find_group(const redisReply *groups, const char *name)
{
    for (size_t i = 0; i < groups->elements; i++) {
        const redisReply *group_name = member(groups->element[i], "name");
        if (group_name != NULL && redis_is_string(group_name) &&
            bytes_equal_text(redis_text(group_name), name))
            return groups->element[i];
    }
    return NULL;
}

/* The group's pending entries and its lag, which Redis before 7 does not know and later ones can't always
 * tell: then what is in the stream and not pending. */
static void ask_group(struct queue_probe *probe, int64_t entries, struct queue_numbers *numbers)
{
    struct error ignored = {0}; /* no stream yet, or no right to ask: then it can't be told */
    redisReply *groups =
        CALL(probe, &ignored, BYTES("XINFO"), BYTES("GROUPS"), bytes_of(probe->dsn.stream));

    if (groups == NULL)
        return;
    const redisReply *group = find_group(groups, probe->dsn.group);
    if (group == NULL) {
        numbers->ready = entries;
        numbers->pending = 0;
    } else {
        numbers->pending = number_of(member(group, "pending"));
        numbers->ready = number_of(member(group, "lag"));
        if (numbers->ready < 0 && probe->dsn.delete_after_ack)
            numbers->ready = entries > numbers->pending ? entries - numbers->pending : 0;
    }
    redis_reply_free(groups);
}

/* "<ms>-<n>": Redis's clock, not ours. */
static int64_t age_of(const redisReply *entry)
{
    struct bytes milliseconds;
    struct bytes rest;
    uint64_t ms;

    if (entry->elements < 1 || !redis_is_string(entry->element[0]) ||
        !bytes_split(redis_text(entry->element[0]), '-', &milliseconds, &rest) ||
        !bytes_to_u64(milliseconds, &ms))
        return -1;
    int64_t age = clock_wall_us() / 1000 - (int64_t)ms;
    return age > 0 ? age : 0;
}

static int ask_oldest(struct queue_probe *probe, int64_t *oldest_ms, struct error *err)
{
    redisReply *entries = CALL(probe, err, BYTES("XRANGE"), bytes_of(probe->dsn.stream), BYTES("-"),
                               BYTES("+"), BYTES("COUNT"), BYTES("1"));

    if (entries == NULL)
        return -(int)err->code;
    *oldest_ms = entries->elements > 0 ? age_of(entries->element[0]) : 0;
    redis_reply_free(entries);
    return 0;
}

static int ask(struct queue_probe *probe, struct queue_numbers *numbers, struct error *err)
{
    int64_t entries = 0;

    if (ask_number(probe, "XLEN", probe->dsn.stream, &entries, err) < 0)
        return -(int)err->code;
    if (ask_number(probe, "ZCARD", probe->delayed_set, &numbers->delayed, err) < 0)
        return -(int)err->code;
    if (entries == 0)
        *numbers = (struct queue_numbers){.delayed = numbers->delayed};
    ask_group(probe, entries, numbers);
    /* Entries that stay after they are done say nothing about how old the open ones are. */
    if (!probe->dsn.delete_after_ack || entries == 0)
        return 0;
    return ask_oldest(probe, &numbers->oldest_ms, err);
}

static int open_and_ask(struct queue_probe *probe, struct queue_numbers *numbers, struct error *err)
{
    *numbers = NUMBERS_UNKNOWN;
    if (!redis_is_open(probe->redis) && redis_open_dsn(probe->redis, &probe->dsn, err) < 0)
        return -(int)err->code;
    return ask(probe, numbers, err);
}

int queue_probe_ask(struct queue_probe *probe, struct queue_numbers *numbers, struct error *err)
{
    int64_t started = clock_monotonic_ms();
    bool kept = redis_is_open(probe->redis);
    int result = open_and_ask(probe, numbers, err);

    /* A kept connection may have broken since: that says nothing about the server now. A server that
     * let us wait is not asked twice. */
    if (result < 0 && kept && !redis_is_open(probe->redis) &&
        clock_monotonic_ms() - started < probe->limit_ms / 2)
        result = open_and_ask(probe, numbers, err);
    if (result < 0)
        *numbers = NUMBERS_UNKNOWN;
    return result;
}
