/* The spool against a model of it: seeded random moves, and after each it is counted what was lost, sent twice
 * or given another identity. Nothing may be, but what a move has destroyed itself.
 *
 *     SPOOL_MODEL_SEEDS=5000 build/tests/unit/test_spool_model     more of it; 500 are the default
 *     SPOOL_MODEL_SEED=17 build/tests/unit/test_spool_model        one again
 */
#include "spool_case.h"

#include "common/client/oversized_file.h"

#define SEEDS        500
#define MOVES        60
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
    uint64_t identity;
    bool destroyed;   /* by a move */
    bool silently;    /* and nothing tells that it ever was there */
    bool written_off; /* Redis lost it, it was kept no more, and that was said */
    bool may_repeat;  /* the mark was none that the spool knows */
};

struct slot {
    int n; /* the last message; 0: none */
    bool unreleased;
    bool uncertain; /* a move has destroyed what was known of it */
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

/* Open and closed ---------------------------------------------------------------------------------- */

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
    if (spool_open(&home->spool, &options, &err) < 0)
        fail_msg("%s: SPOOL_MODEL_SEED=%llu", err.text, (unsigned long long)m->seed);
    home->connected = false;
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
    close_home(home, !one_in(m, 3));
    open_home(m, home);
    check_slots(m, home);
}

static void forget_slots(struct home *home)
{
    for (int i = 0; i < PACKETS; i++)
        home->slots[i].uncertain = true;
}

/* Messages ----------------------------------------------------------------------------------------- */

/* payload has room for LIKE_LARGE and 16 more. */
static struct spool_message message_of(const struct model *m, int n, char *payload)
{
    const struct model_message *stored = &m->messages[n];
    int digits = snprintf(payload, 16, "%d ", n);

    memset(payload + digits, 'x', stored->len + 16 - (size_t)digits);
    return (struct spool_message){.packet_id = (uint16_t)stored->packet,
                                  .received_us = n,
                                  .topic = BYTES("a/b"),
                                  .payload = {payload, stored->len + 16}};
}

static size_t random_len(struct model *m)
{
    if (one_in(m, 100))
        return LIKE_LARGE; /* no segment takes it */
    return one_in(m, 8) ? (size_t)below(m, 30000) : (size_t)below(m, 900);
}

/* The process ends without acknowledging, as the consumer's does. */
static void be_refused(struct model *m, struct home *home)
{
    sys_heal();
    reopen(m, home);
}

static void append(struct model *m, struct home *home)
{
    static char payload[LIKE_LARGE + 32];
    int packet = 1 + below(m, PACKETS - 1), qos = below(m, 3), n = m->count + 1;
    struct slot *slot = &home->slots[packet];
    struct error err;

    if (n >= MESSAGES_MAX || (slot->unreleased && qos > 0))
        return;
    m->messages[n] = (struct model_message){.packet = packet, .len = random_len(m)};
    struct spool_message message = message_of(m, n, payload);
    message.qos = qos;
    if (spool_append(home->spool, &message, &err) < 0) {
        be_refused(m, home);
        return;
    }
    uint64_t size = record_size_of(3, message.payload.len);
    if (SEGMENT_HEADER_SIZE + size > home->spool->segment_size)
        size = record_size_of(3, RECORD_OVERSIZED_SIZE);
    m->count = n;
    m->messages[n].home = (int)(home - m->homes);
    m->messages[n].segment = home->spool->writer.number;
    m->messages[n].from = home->spool->writer.offset - size;
    m->messages[n].to = home->spool->writer.offset;
    m->messages[n].sequence = message.sequence;
    m->messages[n].identity = message.identity;
    if (qos > 0)
        *slot = (struct slot){n, qos == 2, false};
}

/* The broker has not seen our acknowledgement. */
static void receive_again(struct model *m, struct home *home)
{
    static char payload[LIKE_LARGE + 32];
    int packet = 1 + below(m, PACKETS - 1);
    const struct slot *slot = &home->slots[packet];
    struct spool_recent recent = {0};

    if (slot->n == 0)
        return;
    struct spool_message message = message_of(m, slot->n, payload);
    bool found = spool_find_recent(home->spool, &message, &recent);
    require(m, found || slot->uncertain, "a repeat is recognised", slot->n);
    if (!found)
        return;
    require(m, recent.identity == m->messages[slot->n].identity, "identity of a repeat", slot->n);
    if (!slot->uncertain)
        require(m, recent.unreleased == slot->unreleased, "a repeat is unreleased", slot->n);
}

static void release(struct model *m, struct home *home)
{
    struct slot *slot = &home->slots[1 + below(m, PACKETS - 1)];
    struct error err;

    if (!slot->unreleased)
        return;
    if (spool_release(home->spool, (uint16_t)(slot - home->slots), &err) < 0)
        be_refused(m, home);
    else
        slot->unreleased = false;
}

static void begin_session(struct model *m, struct home *home)
{
    struct error err;

    if (spool_begin_session(home->spool, &err) < 0)
        be_refused(m, home);
    else
        memset(home->slots, 0, sizeof(home->slots));
}

/* Redis -------------------------------------------------------------------------------------------- */

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

static void connect_redis(struct model *m, struct home *home)
{
    struct mark_result result;
    const char *mark;

    do {
        mark = mark_of(&m->redis[home->redis], spool_mark_id(home->spool));
        result = spool_apply_mark(home->spool, bytes_of(mark));
        home->kinds[result.kind]++;
        if (result.kind == MARK_UNKNOWN_RUN || result.kind == MARK_COPIED)
            for (int n = 1; n <= m->count; n++)
                m->messages[n].may_repeat = true;
    } while (result.kind == MARK_COPIED);
    check_gap(m, home, &result);
    strcpy(home->expected, mark);
    home->connected = true;
}

static void deliver(struct model *m, const struct home *home, const struct spool_message *message)
{
    struct oversized_message file = {.payload = message->payload};
    struct redis *redis = &m->redis[home->redis];
    struct buf data = {0};
    struct error err;
    char digits[16] = "";

    if (message->oversized &&
        oversized_file_read(home->spool->dir, message->sequence, &file, &data, &err) < 0)
        fail_msg("%s: SPOOL_MODEL_SEED=%llu", err.text, (unsigned long long)m->seed);
    memcpy(digits, file.payload.data, 15);
    int n = atoi(digits);
    require(m, n >= 1 && n <= m->count, "a message of ours", n);
    const struct model_message *stored = &m->messages[n];
    require(m, file.payload.len == stored->len + 16, "all of its bytes", n);
    require(m, message->sequence == stored->sequence, "its sequence", n);
    require(m, message->identity == stored->identity, "its identity", n);
    require(m, !redis->has[n] || stored->may_repeat, "sent twice", n);
    redis->has[n] = true;
    buf_free(&data);
}

/* One batch; false: fenced, or nothing there. */
static bool send_batch(struct model *m, struct home *home, struct spool_position *end)
{
    char *mark = mark_of(&m->redis[home->redis], spool_mark_id(home->spool));
    struct spool_message message = {0};
    struct error err;
    int left = 1 + below(m, 60), more = 1;

    if (strcmp(mark, home->expected) != 0) {
        home->connected = false;
        return false;
    }
    *end = spool_position(home->spool);
    uint64_t last = 0;
    while (left > 0 && more != 0) {
        more = spool_next(home->spool, &message, &err);
        if (more <= 0)
            continue;
        deliver(m, home, &message);
        *end = spool_position(home->spool);
        last = message.sequence;
        spool_mark_text(message.run, message.sequence, home->expected);
        left--;
    }
    strcpy(mark, home->expected);
    return last > 0;
}

/* A batch that Redis does not take. */
static void read_in_vain(struct model *m, struct home *home)
{
    struct spool_message message;
    struct error err;

    for (int left = below(m, 200); left > 0; left--)
        (void)spool_next(home->spool, &message, &err);
    home->connected = false;
    home->late = spool_position(home->spool);
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

static bool send_some(struct model *m, struct home *home, bool replies)
{
    struct spool_position ends[2];
    int sent = 0;

    if (!home->connected) {
        connect_redis(m, home);
        spool_commit(home->spool, &home->late); /* from before: it means nothing */
        check_kept(m, home);
    }
    while (sent < 2 && send_batch(m, home, &ends[sent]))
        sent++;
    if (!replies && one_in(m, 2))
        read_in_vain(m, home);
    for (int i = 0; i < sent; i++) {
        if (!replies && one_in(m, 2)) {
            home->connected = false;
            break;
        }
        spool_commit(home->spool, &ends[i]);
    }
    check_kept(m, home);
    spool_above_high_water(home->spool);
    return sent > 0;
}

static void fail_over(struct model *m)
{
    m->redis[0] = m->replica;
    m->homes[0].connected = m->homes[1].connected = false;
}

/* Damage: all of it to a spool that is closed ------------------------------------------------------- */

static uint64_t last_with_records(const struct model *m, const struct home *home)
{
    uint64_t segment = 0;

    for (int n = 1; n <= m->count; n++)
        if (is_of(m, home, n) && !m->messages[n].destroyed && m->messages[n].segment > segment &&
            has_file(home, m->messages[n].segment))
            segment = m->messages[n].segment;
    return segment;
}

static void destroy(struct model *m, struct home *home, uint64_t segment, uint64_t from,
                    uint64_t to, bool silently)
{
    for (int n = 1; n <= m->count; n++) {
        struct model_message *message = &m->messages[n];
        if (!is_of(m, home, n) || message->segment != segment || message->to <= from ||
            message->from >= to || message->destroyed)
            continue;
        message->destroyed = true;
        message->silently = silently;
    }
    forget_slots(home);
}

/* A segment that has a younger one beside it, so that its end is no torn tail; 0: none. */
static uint64_t some_segment(struct model *m, struct home *home)
{
    uint64_t last = last_with_records(m, home);

    for (int tries = 0; tries < 20 && m->count > 0; tries++) {
        int n = 1 + below(m, m->count);
        if (is_of(m, home, n) && m->messages[n].segment < last &&
            has_file(home, m->messages[n].segment))
            return m->messages[n].segment;
    }
    return 0;
}

static int open_segment(const struct home *home, uint64_t segment, uint64_t *size)
{
    char path[160];
    struct stat status;

    path_of(home, segment, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    *size = (uint64_t)status.st_size;
    return fd;
}

static void damage(struct model *m, struct home *home)
{
    uint64_t segment = some_segment(m, home), size;
    char path[160], garbage[600];

    if (segment == 0)
        return;
    int fd = open_segment(home, segment, &size);
    uint64_t at = SEGMENT_HEADER_SIZE;
    if (size > at)
        at += next_random(m) % (size - at);
    switch (below(m, 3)) {
    case 0: /* bytes change */
        memset(garbage, 0x5A, sizeof(garbage));
        size_t len = 1 + (size_t)below(m, (int)sizeof(garbage));
        len = at + len > size ? (size_t)(size - at) : len;
        assert_int_equal(pwrite(fd, garbage, len, (off_t)at), (ssize_t)len);
        destroy(m, home, segment, at, at + len, false);
        break;
    case 1: /* the end is gone */
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
        destroy(m, home, segment, at, UINT64_MAX, false);
        break;
    case 2:
        path_of(home, segment, path);
        unlink(path);
        destroy(m, home, segment, 0, UINT64_MAX, false);
        break;
    }
    close(fd);
}

/* The header alone: the records tell what it was, if a neighbour is of the same run. */
static void damage_header(struct model *m, struct home *home)
{
    uint64_t segment = some_segment(m, home), size;

    if (segment == 0)
        return;
    int fd = open_segment(home, segment, &size);
    assert_int_equal(pwrite(fd, "garbage", 7, 64), 7);
    close(fd);
    open_home(m, home);
    if (!has_file(home, segment))
        destroy(m, home, segment, 0, UINT64_MAX, false);
    close_home(home, true);
}

static void make_rebooted(struct home *home)
{
    unsigned char other[16] = "another boot id";
    struct recent *recent = recent_new();
    struct recent_origin origin;
    struct segment *segment;
    struct error err;
    int dir = open(home->dir, O_RDONLY | O_DIRECTORY);
    int fd = openat(dir, RECENT_NAME, O_RDWR);

    for (uint64_t number = 1; number < NUMBERS; number++) {
        if (!has_file(home, number) || segment_open(&segment, dir, number, &err) < 0)
            continue;
        memcpy(&origin, &segment->header, sizeof(origin));
        memcpy(segment->header.boot_id, other, 16);
        assert_int_equal(segment_rewrite_header(dir, &segment->header, &err), 0);
        segment_free(segment);
    }
    uint64_t through = recent_load(recent, fd, &origin);
    memcpy(origin.boot_id, other, 16);
    recent_save(recent, fd, &origin, through);
    recent_free(recent);
    close(fd);
    close(dir);
}

/* A power cut: what the kernel had not written is gone. */
static void lose_tail(struct model *m, struct home *home)
{
    uint64_t segment = last_with_records(m, home), size;

    if (segment > 0) {
        int fd = open_segment(home, segment, &size);
        uint64_t at = SEGMENT_HEADER_SIZE;
        if (size > at)
            at += next_random(m) % (size - at);
        assert_int_equal(ftruncate(fd, (off_t)at), 0);
        close(fd);
        /* A younger segment tells how many records there were. */
        bool silently = true;
        for (uint64_t younger = segment + 1; younger < NUMBERS; younger++)
            silently = silently && !has_file(home, younger);
        destroy(m, home, segment, at, UINT64_MAX, silently);
    }
    make_rebooted(home);
}

/* Files that only help are older than they should be, or gone. */
static void lose_help(struct model *m, struct home *home)
{
    char path[160];
    bool recent = one_in(m, 2);

    snprintf(path, sizeof(path), "%s/%s", home->dir, recent ? RECENT_NAME : "committed");
    unlink(path);
    if (recent)
        forget_slots(home);
}

static void copy_files(const char *from, const char *to)
{
    char command[300];

    snprintf(command, sizeof(command), "rm -rf %s && cp -a %s %s", to, from, to);
    assert_int_equal(system(command), 0);
}

static void drain(struct model *m, struct home *home);

/* The directory of a while ago, at a Redis that has had more since. */
static void restore_backup(struct model *m, struct home *home)
{
    char backup[160];
    int kept = m->count;

    snprintf(backup, sizeof(backup), "%s.backup", home->dir);
    copy_files(home->dir, backup);
    open_home(m, home);
    for (int i = below(m, 100); i > 0; i--)
        append(m, home);
    drain(m, home);
    close_home(home, true);
    copy_files(backup, home->dir);
    forget_slots(home);
    for (int n = kept + 1; n <= m->count; n++)
        m->messages[n].destroyed = m->messages[n].silently = true;
    for (int n = 1; n <= kept; n++)
        m->messages[n].written_off |= m->redis[home->redis].has[n];
    open_home(m, home);
    connect_redis(m, home);
    close_home(home, true);
}

static void break_something(struct model *m, struct home *home)
{
    close_home(home, !one_in(m, 3));
    switch (below(m, 6)) {
    case 5:
        restore_backup(m, home);
        break;
    case 0:
        damage(m, home);
        break;
    case 1:
        damage_header(m, home);
        break;
    case 2:
        lose_tail(m, home);
        break;
    default:
        lose_help(m, home);
        break;
    }
    open_home(m, home);
}

/* Moves -------------------------------------------------------------------------------------------- */

static void make_move(struct model *m, struct home *home)
{
    int burst = 1 + below(m, 60);

    switch (below(m, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        while (burst-- > 0)
            append(m, home);
        break;
    case 5:
    case 6:
    case 7:
        send_some(m, home, !one_in(m, 3));
        break;
    case 8:
        while (burst-- > 0)
            release(m, home);
        break;
    case 9:
        while (burst-- > 0)
            receive_again(m, home);
        break;
    case 10:
        reopen(m, home);
        break;
    case 11:
        if (one_in(m, 2))
            m->replica = m->redis[0];
        else
            fail_over(m);
        break;
    case 12:
        if (one_in(m, 4))
            begin_session(m, home);
        break;
    case 13:
        if (one_in(m, 2))
            sys_fail(SYS_ALLOCATE, 1 + below(m, 3), 1 + below(m, 30), ENOSPC);
        else
            sys_heal();
        break;
    case 14:
        while (burst-- > 0 && send_some(m, home, true))
            append(m, home);
        break;
    case 15:
        if (one_in(m, 4) && (m->seed % 4) < 2)
            break_something(m, home);
        break;
    }
    receive_again(m, home);
}

static void drain(struct model *m, struct home *home)
{
    sys_heal();
    if (home->spool == NULL)
        open_home(m, home);
    home->connected = false;
    for (int i = 0; send_some(m, home, true) || !home->connected; i++)
        require(m, i < 2000, "an end of sending", 0);
    struct spool_state state;
    spool_state(home->spool, &state);
    require(m, state.unsent_records == 0, "nothing is unsent", (int)state.unsent_records);
    require(m, spool_below_low_water(home->spool), "the broker is joined", 0);
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
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static void check_identities(const struct model *m, const struct home *home)
{
    static uint64_t identities[MESSAGES_MAX];
    size_t len = 0;

    for (int n = 1; n <= m->count; n++)
        if (is_of(m, home, n))
            identities[len++] = m->messages[n].identity;
    qsort(identities, len, sizeof(identities[0]), by_identity);
    for (size_t i = 1; i < len; i++)
        require(m, identities[i - 1] != identities[i], "two messages, one identity", 0);
}

/* A Redis that has lost all gets all that is kept, and is told what is not. */
static void check_flush(struct model *m, struct home *home)
{
    struct spool_message message;
    struct spool_state state;
    struct error err;
    uint64_t destroyed = 0;
    int n = 0, more;

    close_home(home, false);
    open_home(m, home);
    spool_apply_mark(home->spool, BYTES_NONE);
    uint64_t first = home->spool->reader.first->header.first_sequence;
    memset(m->redis[home->redis].has, 0, sizeof(m->redis[0].has));
    while ((more = spool_next(home->spool, &message, &err)) != 0)
        if (more > 0)
            deliver(m, home, &message);
    for (n = 1; n <= m->count; n++) {
        const struct model_message *stored = &m->messages[n];
        if (!is_of(m, home, n) || stored->sequence < first)
            continue;
        if (!m->redis[home->redis].has[n])
            require(m, stored->destroyed, "kept and not given", n);
        destroyed += !m->redis[home->redis].has[n] && !stored->silently;
    }
    spool_state(home->spool, &state);
    require(m, state.damaged_records == destroyed, "what is reported as damaged", (int)destroyed);
}

static void play_alone(struct model *m)
{
    struct home *home = &m->homes[0];

    for (int i = 0; i < MOVES; i++)
        make_move(m, home);
    drain(m, home);
    check_nothing_lost(m, home);
    check_identities(m, home);
    check_flush(m, home);
}

/* Two processes, each with a copy of the directory, at one Redis. */
static void play_with_a_copy(struct model *m)
{
    int settled = 0;

    for (int i = 0; i < MOVES / 2; i++)
        make_move(m, &m->homes[0]);
    sys_heal();
    if (!m->homes[0].connected)
        connect_redis(m, &m->homes[0]); /* what a fail-over has cost is said */
    close_home(&m->homes[0], !one_in(m, 2));
    copy_files(m->homes[0].dir, m->homes[1].dir);
    memcpy(m->homes[1].slots, m->homes[0].slots, sizeof(m->homes[0].slots));
    int common = m->count;
    open_home(m, &m->homes[0]);
    open_home(m, &m->homes[1]);
    for (int i = 0; i < 40; i++) {
        struct home *home = &m->homes[below(m, 2)];
        for (int k = below(m, 20); k > 0; k--)
            append(m, home);
        int before = home->kinds[MARK_UNKNOWN_RUN] + home->kinds[MARK_COPIED];
        while (send_some(m, home, true))
            ;
        if (i == 20)
            reopen(m, home);
        bool again = home->kinds[MARK_UNKNOWN_RUN] + home->kinds[MARK_COPIED] > before;
        settled = again ? 0 : settled + 1;
    }
    require(m, settled > 10, "they leave each other alone", 0);
    int branches = m->homes[0].kinds[MARK_COPIED] + m->homes[1].kinds[MARK_COPIED];
    require(m, branches <= 2, "marks of their own", branches);
    for (int i = 0; i < 2; i++) {
        drain(m, &m->homes[i]);
        check_nothing_lost(m, &m->homes[i]);
        check_identities(m, &m->homes[i]);
    }
    /* Once they know of each other, their new messages have identities of their own. */
    int known = m->count;
    for (int i = 0; i < 40; i++)
        append(m, &m->homes[i % 2]);
    for (int n = known + 1; n <= m->count && branches > 0; n++)
        for (int k = common + 1; k < n; k++)
            require(m, m->messages[k].identity != m->messages[n].identity, "one identity", n);
}

/* The DSN is changed, to a Redis that may be a replica of the former one, and back. */
static void play_with_two_destinations(struct model *m)
{
    int now = 0;

    open_home(m, &m->homes[1]);
    m->homes[1].redis = 1;
    for (int i = 0; i < MOVES; i++) {
        make_move(m, &m->homes[now]);
        if (!one_in(m, 10))
            continue;
        now = 1 - now;
        bool promoted = now == 1 && one_in(m, 2);
        bool lags = one_in(m, 2);
        if (promoted)
            m->redis[1] = lags ? m->replica : m->redis[0];
        for (int h = 0; h < 2; h++) {
            struct home *home = &m->homes[h];
            sys_heal();
            reopen(m, home);
            const char *mark = mark_of(&m->redis[now], spool_mark_id(home->spool));
            bool known = spool_knows_mark(home->spool, bytes_of(mark));
            uint64_t kept = home->spool->reader.first->header.first_sequence;
            uint64_t marked = mark[0] != '\0' ? strtoull(mark + 17, NULL, 10) : 0;
            require(m, known || h == 1 || !promoted || lags || marked < kept, "known", 0);
            require(m, !known || marked > 0, "no mark is none of ours", 0);
            home->redis = h == now || known ? now : h;
        }
    }
    for (int h = 0; h < 2; h++) {
        drain(m, &m->homes[h]);
        check_nothing_lost(m, &m->homes[h]);
        check_identities(m, &m->homes[h]);
    }
}

static void play(struct spool_case *c, const char *root, uint64_t seed)
{
    struct model *m = xcalloc(1, sizeof(*m));

    *m = (struct model){.c = c, .seed = seed};
    m->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (int i = 0; i < 2; i++)
        snprintf(m->homes[i].dir, sizeof(m->homes[i].dir), "%s/%d", root, i);
    c->options.size = 2 * MB;
    c->options.retain = 100 * KB * below(m, 8);
    open_home(m, &m->homes[0]);
    if (seed % 4 == 2)
        play_with_a_copy(m);
    else if (seed % 4 == 3)
        play_with_two_destinations(m);
    else
        play_alone(m);
    for (int i = 0; i < 2; i++) {
        close_home(&m->homes[i], true);
        spool_case_clear(m->homes[i].dir);
        rmdir(m->homes[i].dir);
        strcat(m->homes[i].dir, ".backup");
        spool_case_clear(m->homes[i].dir);
        rmdir(m->homes[i].dir);
    }
    free(m);
}

static void test_nothing_is_lost_or_doubled_but_what_a_move_destroys(void **state)
{
    const char *one = getenv("SPOOL_MODEL_SEED");
    const char *many = getenv("SPOOL_MODEL_SEEDS");
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
    char root[] = "/dev/shm/spool-model-XXXXXX"; /* in memory: thousands of files are synced */
    struct spool_case *c = *state;
    bool in_memory = mkdtemp(root) != NULL;
    uint64_t count = one != NULL ? 1 : many != NULL ? strtoull(many, NULL, 10) : SEEDS;

    for (uint64_t seed = first; seed < first + count; seed++)
        play(c, in_memory ? root : c->root, seed);
    if (in_memory)
        rmdir(root);
    print_message("%llu seeds from %llu\n", (unsigned long long)count, (unsigned long long)first);
}

int main(void)
{
    log_open(&(struct log_options){.level = getenv("SPOOL_MODEL_LOG") != NULL ? LOG_LEVEL_DEBUG
                                                                              : LOG_LEVEL_EMERGENCY,
                                   .fd = 2});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_lost_or_doubled_but_what_a_move_destroys,
                                        spool_case_begin, spool_case_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
