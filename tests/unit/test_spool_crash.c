/* SIGKILL at random moments: what spool_append acknowledged is there, in order, and nothing twice.
 *
 * A child appends from one thread while its main thread reads and commits, as the consumer does. It reports each
 * acknowledged message, and the mark that "Redis" holds, through a pipe. The parent kills it after a random while,
 * opens the spool and compares. SPOOL_CRASH_SEED repeats a run (but for the moment of the kill), SPOOL_CRASH_ROUNDS
 * makes more of it. */
#include "spool_case.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define ROUNDS         40
#define KILL_WITHIN_US 15000
#define COMMIT_LAG     300

/* What the child tells: 16 bytes, which a pipe never tears. */
struct word {
    uint64_t mark_run; /* 0: `number` was acknowledged */
    uint64_t number;   /* of the message; for a mark, its sequence */
};

struct writer {
    struct spool_case *c;
    int fd;
    int first; /* number of the first message to append */
    uint64_t random;
};

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static void tell(int fd, uint64_t mark_run, uint64_t number)
{
    struct word word = {mark_run, number};

    if (write(fd, &word, sizeof(word)) != (ssize_t)sizeof(word))
        _exit(3);
}

/* Mostly small, now and then one that nearly fills a segment. */
static size_t random_len(uint64_t *random)
{
    uint64_t r = next_random(random);

    if (r % 100 == 0)
        return (size_t)(r >> 8) % (900 * KB);
    return (size_t)(r >> 8) % 600;
}

static void *append_for_ever(void *context)
{
    struct writer *writer = context;
    struct error err;
    uint64_t sequence;

    for (int n = writer->first;; n++) {
        size_t len = random_len(&writer->random);

        while (spool_case_try(writer->c, n, len, &sequence, &err) < 0) {
            if (err.code != ERR_FULL)
                _exit(4);
            usleep(100); /* the reader makes room */
        }
        tell(writer->fd, 0, (uint64_t)n);
    }
    return NULL;
}

/* The mark is told before the commit: Redis has it first. */
static void read_for_ever(struct spool_case *c, int fd)
{
    struct record message = {0};
    int uncommitted = 0;

    for (;;) {
        int next = spool_case_next(c, &message);

        if (next < 0)
            _exit(5);
        uncommitted += next > 0;
        if (uncommitted > COMMIT_LAG || (next == 0 && uncommitted > 0)) {
            tell(fd, message.run, message.sequence);
            spool_case_commit(c);
            uncommitted = 0;
        }
        if (next == 0 && spool_arm_wakeup(c->spool)) {
            struct pollfd event = {.fd = spool_event_fd(c->spool), .events = POLLIN};

            poll(&event, 1, -1);
            spool_disarm_wakeup(c->spool);
        }
    }
}

static void child(struct spool_case *c, int fd, int first, uint64_t random, const char *mark)
{
    struct writer writer = {.c = c, .fd = fd, .first = first, .random = random};
    pthread_t thread;
    struct error err;

    if (spool_open(&c->spool, &c->options, &err) < 0)
        _exit(6);
    spool_apply_mark(c->spool, bytes_of(mark));
    if (pthread_create(&thread, NULL, append_for_ever, &writer) != 0)
        _exit(7);
    read_for_ever(c, fd);
}

struct told {
    int acknowledged; /* the last message */
    char mark[40];
};

static void listen_to_the_end(int fd, struct told *told)
{
    struct word word;

    while (read(fd, &word, sizeof(word)) == (ssize_t)sizeof(word))
        if (word.mark_run != 0)
            spool_mark_text(word.mark_run, word.number, told->mark);
        else
            told->acknowledged = (int)word.number;
}

static void run_and_kill(struct spool_case *c, struct told *told, uint64_t *random)
{
    int ends[2], status;

    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    uint64_t child_random = next_random(random);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        child(c, ends[1], told->acknowledged + 1, child_random, told->mark);
    }
    close(ends[1]);
    /* The pipe must not fill up meanwhile: listening is what takes the time. */
    struct pollfd fd = {.fd = ends[0], .events = POLLIN};
    poll(&fd, 1, 10000);
    pid_t killer = fork();
    assert_true(killer >= 0);
    if (killer == 0) {
        usleep((useconds_t)(next_random(random) % KILL_WITHIN_US));
        kill(pid, SIGKILL);
        _exit(0);
    }
    next_random(random);
    listen_to_the_end(ends[0], told);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the writer ended by itself with %d", WEXITSTATUS(status));
    waitpid(killer, NULL, 0);
}

/* All that was acknowledged and not marked, in order. Behind it at most the one whose acknowledgement the kill cut
 * short, which the broker would send again. */
static void check(struct spool_case *c, struct told *told)
{
    struct record message;
    int expected = 0, next;

    spool_case_open(c);
    struct mark_result rewound = spool_apply_mark(c->spool, bytes_of(told->mark));
    assert_int_not_equal(rewound.kind, MARK_GAP);
    assert_int_not_equal(rewound.kind, MARK_UNKNOWN_RUN);
    assert_int_equal(rewound.position, (uint64_t)spool_case_state(c).committed_sequence + 1);
    while ((next = spool_case_next(c, &message)) != 0) {
        assert_true(next > 0);
        if (expected == 0)
            expected = (int)rewound.position;
        assert_int_equal(message.sequence, expected);
        assert_int_equal(next, expected);
        expected++;
    }
    if (expected > 0) {
        assert_in_range(expected - 1, told->acknowledged, told->acknowledged + 1);
        told->acknowledged = expected - 1;
    } else {
        assert_in_range(rewound.position - 1, told->acknowledged, told->acknowledged + 1);
        told->acknowledged = (int)rewound.position - 1;
    }
    assert_int_equal(spool_case_state(c).damaged_records, 0);
    spool_case_close(c);
}

static void test_no_kill_loses_or_doubles_an_acknowledged_message(void **state)
{
    struct spool_case *c = *state;
    struct told told = {0};
    const char *seed_text = getenv("SPOOL_CRASH_SEED");
    const char *rounds_text = getenv("SPOOL_CRASH_ROUNDS");
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    int rounds = rounds_text != NULL ? atoi(rounds_text) : ROUNDS;
    uint64_t random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

    print_message("SPOOL_CRASH_SEED=%llu\n", (unsigned long long)seed);
    c->options.size = 8 * MB;
    c->options.largest_message = 900 * KB;
    c->options.retain = 256 * KB;
    for (int round = 0; round < rounds; round++) {
        run_and_kill(c, &told, &random);
        check(c, &told);
    }
    print_message("%d messages acknowledged, %d kills\n", told.acknowledged, rounds);
    assert_true(told.acknowledged > rounds);
}

int main(void)
{
    log_open(&(struct log_options){.level = LOG_LEVEL_WARNING, .fd = 2});
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_kill_loses_or_doubles_an_acknowledged_message,
                                        spool_case_begin, spool_case_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
