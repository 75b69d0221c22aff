/* The model that test_spool_model.c compares the spool with: which messages there are, what each Redis has, what a move
 * has destroyed. Also the checks of the spool by the model. */
#ifndef TESTS_UNIT_SPOOL_MODEL_H
#define TESTS_UNIT_SPOOL_MODEL_H

#include "spool_case.h"

#include "common/client/oversized_file.h"

#define MESSAGES_MAX 4000
#define PACKETS      40   /* ids in use */
#define NUMBERS      1000 /* of segments: more than a play has */
#define LIKE_LARGE   (140 * KB)

struct model_message {
    int home; /* whose it is */
    int packet;
    size_t len;
    uint64_t segment;
    uint64_t from, to; /* offsets */
    uint64_t sequence;
    uint64_t identity; /* with spool_id: one that lost all its segments begins anew */
    unsigned char spool_id[16];
    bool destroyed;   /* by a move */
    bool silently;    /* and nothing tells that it ever was there */
    bool written_off; /* Redis lost it, it was kept no more, and that was said */
    bool may_repeat;  /* the mark was none that the spool knows */
};

struct slot {
    int n; /* the last message; 0: none */
    bool unreleased;
    bool uncertain; /* a move has destroyed what was known of the packet id */
};

/* All that is in a Redis. */
struct redis {
    struct {
        char id[64];
        char mark[40];
    } marks[8];
    bool has[MESSAGES_MAX];
};

struct home {
    char dir[120];
    struct spool *spool;
    int redis; /* that its messages go to */
    bool receives;
    struct slot slots[PACKETS];
    char expected[40]; /* the mark that the next batch expects */
    bool connected;
    struct spool_position late; /* of a batch that was not taken */
    int kinds[MARK_COPIED + 1];
};

struct model {
    struct spool_case *c;
    uint64_t random;
    uint64_t seed;
    struct home homes[2];
    struct redis redis[2];
    struct redis replica; /* what redis[0] was a while ago */
    struct model_message messages[MESSAGES_MAX];
    int count;
};

static uint64_t next_random(struct model *m)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random >> 11;
}

static int below(struct model *m, int bound)
{
    return (int)(next_random(m) % (uint64_t)bound);
}

static bool one_in(struct model *m, int bound)
{
    return below(m, bound) == 0;
}

static void require(const struct model *m, bool condition, const char *what, int n)
{
    if (!condition)
        fail_msg("%s (message %d): SPOOL_MODEL_SEED=%llu", what, n, (unsigned long long)m->seed);
}

static bool is_of(const struct model *m, const struct home *home, int n)
{
    return m->messages[n].home == (int)(home - m->homes);
}

static void path_of(const struct home *home, uint64_t segment, char path[160])
{
    snprintf(path, 160, "%s/%012llu.segment", home->dir, (unsigned long long)segment);
}

static bool has_file(const struct home *home, uint64_t segment)
{
    char path[160];

    path_of(home, segment, path);
    return access(path, F_OK) == 0;
}

static void open_home(struct model *m, struct home *home)
{
    struct spool_options options = m->c->options;
    struct error err;

    options.dir = home->dir;
    options.receives = home->receives;
    if (spool_open(&home->spool, &options, &err) < 0)
        fail_msg("%s: SPOOL_MODEL_SEED=%llu", err.text, (unsigned long long)m->seed);
    home->connected = false;
    home->late = (struct spool_position){0};
}

static void close_home(struct home *home, bool killed)
{
    if (home->spool == NULL)
        return;
    if (killed)
        home->spool->opened = false;
    spool_close(home->spool);
    home->spool = NULL;
}

static void check_slots(const struct model *m, const struct home *home)
{
    uint16_t ids[PACKETS];
    bool unreleased[PACKETS] = {false};
    size_t len = spool_unreleased(home->spool, ids, PACKETS);

    for (size_t i = 0; i < len; i++)
        unreleased[ids[i]] = true;
    for (int i = 1; i < PACKETS; i++)
        if (!home->slots[i].uncertain)
            require(m, unreleased[i] == home->slots[i].unreleased, "what is unreleased",
                    home->slots[i].n);
}

static void reopen(struct model *m, struct home *home)
{
    struct home *other = &m->homes[home == m->homes];
    bool is_sent = other->spool != NULL && !other->receives;

    /* The same process sends the other one: this may have to take over from it once more. */
    if (is_sent)
        close_home(other, false);
    close_home(home, !one_in(m, 3));
    open_home(m, home);
    if (is_sent)
        open_home(m, other);
    check_slots(m, home);
}

static void forget_slots(struct home *home)
{
    for (int i = 0; i < PACKETS; i++)
        home->slots[i].uncertain = true;
}

/* payload has room for LIKE_LARGE and 16 more. */
static struct record message_of(const struct model *m, int n, char *payload)
{
    const struct model_message *stored = &m->messages[n];
    int digits = snprintf(payload, 16, "%d ", n);

    memset(payload + digits, 'x', stored->len + 16 - (size_t)digits);
    return (struct record){.packet_id = (uint16_t)stored->packet,
                           .received_us = n,
                           .topic = BYTES("a/b"),
                           .payload = {payload, stored->len + 16}};
}

static char *mark_of(struct redis *redis, const char *id)
{
    size_t i = 0;

    while (redis->marks[i].id[0] != '\0' && strcmp(redis->marks[i].id, id) != 0)
        i++;
    strcpy(redis->marks[i].id, id);
    return redis->marks[i].mark;
}

/* What Redis does not have, and this spool keeps no more, must be said. */
static void check_gap(struct model *m, const struct home *home, const struct mark_result *result)
{
    uint64_t gone = 0;

    for (int n = 1; n <= m->count; n++) {
        struct model_message *message = &m->messages[n];

        if (!is_of(m, home, n) || m->redis[home->redis].has[n] || message->destroyed ||
            message->written_off || has_file(home, message->segment))
            continue;
        require(m, result->kind == MARK_GAP, "lost without a word", n);
        message->written_off = true;
        gone++;
    }
    require(m, result->missing >= gone, "missing", (int)gone);
}

static void deliver(struct model *m, const struct home *home, const struct record *message)
{
    struct oversized_message file = {.record = *message};
    struct redis *redis = &m->redis[home->redis];
    struct buf data = {0};
    struct error err;
    char digits[16] = "";

    if (message->oversized &&
        oversized_file_read(home->spool->dir, message->sequence, &file, &data, &err) < 0)
        fail_msg("%s: SPOOL_MODEL_SEED=%llu", err.text, (unsigned long long)m->seed);
    memcpy(digits, file.record.payload.data, 15);
    int n = atoi(digits);
    require(m, n >= 1 && n <= m->count, "a message of ours", n);
    const struct model_message *stored = &m->messages[n];
    require(m, file.record.payload.len == stored->len + 16, "all of its bytes", n);
    require(m, message->sequence == stored->sequence, "its sequence", n);
    require(m, message->identity == stored->identity, "its identity", n);
    require(m, !redis->has[n] || stored->may_repeat, "sent twice", n);
    redis->has[n] = true;
    buf_free(&data);
}

static void check_kept(const struct model *m, const struct home *home)
{
    struct spool_state state;

    spool_state(home->spool, &state);
    for (int n = 1; n <= m->count; n++) {
        const struct model_message *message = &m->messages[n];

        if (!is_of(m, home, n) || m->redis[home->redis].has[n] || message->destroyed ||
            message->written_off)
            continue;
        require(m, message->sequence > state.committed_sequence, "committed", n);
        require(m, has_file(home, message->segment), "freed", n);
    }
}

static void check_nothing_lost(const struct model *m, const struct home *home)
{
    for (int n = 1; n <= m->count; n++) {
        const struct model_message *message = &m->messages[n];

        if (is_of(m, home, n))
            require(m, m->redis[home->redis].has[n] || message->destroyed || message->written_off,
                    "lost", n);
    }
}

static int by_identity(const void *a, const void *b)
{
    const struct model_message *left = a, *right = b;
    int ids = memcmp(left->spool_id, right->spool_id, sizeof(left->spool_id));

    if (ids != 0)
        return ids;
    return left->identity < right->identity ? -1 : left->identity > right->identity;
}

/* home NULL: over both. */
static void check_identities(const struct model *m, const struct home *home)
{
    static struct model_message sorted[MESSAGES_MAX];
    size_t len = 0;

    for (int n = 1; n <= m->count; n++)
        if (home == NULL || is_of(m, home, n))
            sorted[len++] = m->messages[n];
    qsort(sorted, len, sizeof(sorted[0]), by_identity);
    for (size_t i = 1; i < len; i++)
        require(m, by_identity(&sorted[i - 1], &sorted[i]) != 0, "two messages, one identity", 0);
}

#endif
