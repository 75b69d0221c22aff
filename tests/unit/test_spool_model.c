/* The spool against a model of it: seeded random moves, and after each it is counted what was lost, sent twice
 * or given another identity. Nothing may be, but what a move has destroyed itself.
 *
 *     SPOOL_MODEL_SEEDS=5000 build/tests/unit/test_spool_model     more of it; 500 are the default
 *     SPOOL_MODEL_SEED=17 build/tests/unit/test_spool_model        one again
 */
#include "spool_model.h"

#define SEEDS 500
#define MOVES 60

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
    struct record message = message_of(m, n, payload);
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
    memcpy(m->messages[n].spool_id, home->spool->id, 16);
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
    struct record message = message_of(m, slot->n, payload);
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

/* One batch; false: fenced, or nothing there. */
static bool send_batch(struct model *m, struct home *home, struct spool_position *end)
{
    char *mark = mark_of(&m->redis[home->redis], spool_mark_id(home->spool));
    struct record message = {0};
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
    struct record message;
    struct error err;

    for (int left = below(m, 200); left > 0; left--)
        (void)spool_next(home->spool, &message, &err);
    home->connected = false;
    home->late = spool_position(home->spool);
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
    spool_case_make_rebooted(home->dir);
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
    char command[600];

    snprintf(command, sizeof(command), "mkdir -p %s && rm -rf %s && cp -a %s %s", to, to, from, to);
    assert_int_equal(system(command), 0);
}

static void drain(struct model *m, struct home *home);

/* Not beside the spool, where it would be one of the same client id. */
static void backup_of(const struct home *home, char path[160])
{
    snprintf(path, 160, "%.*s.backup", (int)(strrchr(home->dir, '/') - home->dir), home->dir);
}

/* The directory of a while ago, at a Redis that has had more since. */
static void restore_backup(struct model *m, struct home *home)
{
    char backup[160];
    int kept = m->count;

    backup_of(home, backup);
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
    /* A disk that has room again is tried within a second. */
    home->spool->reader.spare_retry_ms = home->spool->reader.reuse_retry_ms = 0;
    home->connected = false;
    for (int i = 0; send_some(m, home, true) || !home->connected; i++)
        require(m, i < 2000, "an end of sending", 0);
    struct spool_state state;
    spool_state(home->spool, &state);
    require(m, state.unsent_records == 0, "nothing is unsent", (int)state.unsent_records);
    require(m, spool_below_low_water(home->spool), "the broker is joined", 0);
}

/* A Redis that has lost all gets all that is kept, and is told what is not. */
static void check_flush(struct model *m, struct home *home)
{
    struct record message;
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
            require(m, by_identity(&m->messages[k], &m->messages[n]) != 0, "one identity", n);
}

/* The session goes on in the other spool, which takes over; this one is only sent from then on. */
static void change_destination(struct model *m, struct home *from, struct home *to)
{
    sys_heal();
    close_home(from, !one_in(m, 3));
    close_home(to, !one_in(m, 3));
    from->receives = false;
    to->receives = true;
    memcpy(to->slots, from->slots, sizeof(to->slots));
    open_home(m, to);
    open_home(m, from);
    check_slots(m, to);
}

/* The DSN is changed, to a Redis that may be a replica of the one before, and back. */
static void play_with_two_destinations(struct model *m)
{
    int now = 0;

    m->homes[1].redis = 1;
    for (int i = 0; i < MOVES; i++) {
        make_move(m, &m->homes[now]);
        if (!one_in(m, 10))
            continue;
        change_destination(m, &m->homes[now], &m->homes[1 - now]);
        now = 1 - now;
        bool promoted = now == 1 && one_in(m, 2);
        bool lags = one_in(m, 2);
        if (promoted)
            m->redis[1] = lags ? m->replica : m->redis[0];
        for (int h = 0; h < 2; h++) {
            struct home *home = &m->homes[h];
            const char *mark = mark_of(&m->redis[now], spool_mark_id(home->spool));
            bool known = spool_knows_mark(home->spool, bytes_of(mark));
            const struct segment *first = home->spool->reader.first;
            uint64_t kept = first != NULL ? first->header.first_sequence : 1;
            uint64_t marked = mark[0] != '\0' ? strtoull(mark + 17, NULL, 10) : 0;

            require(m, known || h == 1 || !promoted || lags || marked < kept, "known", 0);
            require(m, !known || marked > 0, "no mark is none of ours", 0);
            home->redis = h == now || known ? now : h;
        }
    }
    for (int h = 0; h < 2; h++) {
        if (m->homes[h].spool == NULL) /* the destination was never changed */
            continue;
        drain(m, &m->homes[h]);
        check_nothing_lost(m, &m->homes[h]);
    }
    check_identities(m, NULL);
}

static void play(struct spool_case *c, const char *root, uint64_t seed)
{
    struct model *m = xcalloc(1, sizeof(*m));

    *m = (struct model){.c = c, .seed = seed};
    m->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (int i = 0; i < 2; i++) {
        /* Beside each other only if they are of one client id. */
        snprintf(m->homes[i].dir, sizeof(m->homes[i].dir), "%s/%d/%d", root, seed % 4 == 3 ? 0 : i,
                 i);
        m->homes[i].receives = true;
    }
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
        struct home *home = &m->homes[i];
        char path[160];

        close_home(home, true);
        spool_case_clear(home->dir);
        rmdir(home->dir);
        *strrchr(home->dir, '/') = '\0';
        spool_case_clear(home->dir); /* the file `current` */
        rmdir(home->dir);
        snprintf(path, sizeof(path), "%s.backup", home->dir);
        spool_case_clear(path);
        rmdir(path);
    }
    free(m);
}

static void test_random_spool_histories_lose_or_double_only_destroyed_records(void **state)
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
        cmocka_unit_test_setup_teardown(
            test_random_spool_histories_lose_or_double_only_destroyed_records, spool_case_begin,
            spool_case_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
