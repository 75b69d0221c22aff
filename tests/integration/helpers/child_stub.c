/* A child with nothing to do, for the tests of the supervisor. It has real settings, statistics, readiness and signals
 * (common/runtime/child.h), and the faults that a test asks for.
 *
 * STUB_DIR names a folder. The first line of the file STUB_DIR/<name>:<number>, or STUB_DIR/<name>, says
 * how to behave; it is read at the start:
 *
 *     exit CODE [WORDS]   ends before it is ready, with WORDS on standard error
 *     ready-exit CODE MS  is ready, ends MS later
 *     unready REASON      beats, gives the reason, is never ready
 *     reason TEXT         is ready, and has a reason not to be
 *     slow-stop MS        takes MS to end after SIGTERM
 *     hold-stop           ends after SIGTERM once the file STUB_DIR/release is there
 *     ignore-term         does not end at SIGTERM
 *     stranger            leaves a grandchild behind in a session of its own, then works as usual; that one ends when
 *                         STUB_DIR/stranger.pid is removed
 *     helper              starts a child in its own process group that outlives it unless killed
 *     talk N              writes N lines to standard error once ready
 *     garbage             writes nonsense to its notify descriptor, then READY
 *     work N              counts N as done
 * Anything else: ready at once, ends at SIGTERM. What it does it writes to STUB_DIR/events, a line each:
 * "<name>:<number> <pid> <start|ready|term|quit|end>". */
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/runtime/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 20 /* between looks for a file that a test makes or removes */

struct stub {
    struct child child;
    const char *folder;
    char line[512]; /* how to behave */
    char *word;     /* its first word */
    char *rest;     /* what is behind it */
    int64_t end_ms; /* -1: none */
    bool held;      /* has been told to end, and waits for STUB_DIR/release */
    int end_code;
};

static void note(const struct stub *stub, const char *what)
{
    char *path = xasprintf("%s/events", stub->folder);
    char *line =
        xasprintf("%s:%d %d %s\n", stub->child.name, stub->child.number, (int)getpid(), what);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        perror(path);
    close(fd);
    free(path);
    free(line);
}

static bool read_line(struct stub *stub, const char *path)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return false;
    if (fgets(stub->line, sizeof(stub->line), file) == NULL)
        stub->line[0] = '\0';
    fclose(file);
    return true;
}

static void read_behaviour(struct stub *stub)
{
    char *own = xasprintf("%s/%s:%d", stub->folder, stub->child.name, stub->child.number);
    char *common = xasprintf("%s/%s", stub->folder, stub->child.name);

    if (!read_line(stub, own))
        read_line(stub, common);
    free(own);
    free(common);
    stub->line[strcspn(stub->line, "\n")] = '\0';
    stub->word = stub->line;
    stub->rest = stub->line + strcspn(stub->line, " ");
    if (*stub->rest != '\0')
        *stub->rest++ = '\0';
}

static bool behaves(const struct stub *stub, const char *word)
{
    return strcmp(stub->word, word) == 0;
}

/* Runs for a minute, or while STUB_DIR/<what> is there, which has its pid. */
static void leave_behind(const struct stub *stub, const char *what, bool own_session)
{
    pid_t pid = fork();

    if (pid != 0) {
        if (own_session)
            waitpid(pid, NULL, 0);
        return;
    }
    if (own_session && (setsid() < 0 || fork() != 0))
        _exit(0);
    char *path = xasprintf("%s/%s", stub->folder, what);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
    }
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    for (int i = 0; i < 60 * 1000 / POLL_MS && access(path, F_OK) == 0; i++)
        poll(NULL, 0, POLL_MS);
    _exit(0);
}

static void before_ready(struct stub *stub)
{
    char *words = NULL;

    if (behaves(stub, "exit")) {
        int code = (int)strtol(stub->rest, &words, 10);

        if (*words != '\0')
            fprintf(stderr, "%s\n", words + 1);
        note(stub, "end");
        exit(code);
    }
    if (behaves(stub, "stranger"))
        leave_behind(stub, "stranger.pid", true);
    if (behaves(stub, "helper"))
        leave_behind(stub, "helper.pid", false);
    if (behaves(stub, "garbage") && write(stub->child.notify_fd, "\xff\0nonsense\n\n", 12) < 0)
        perror("notify");
    if (behaves(stub, "unready") || behaves(stub, "reason"))
        stats_reason(stub->child.slot, stub->rest);
    if (behaves(stub, "work"))
        stats_add(stub->child.slot,
                  strcmp(stub->child.name, "worker") == 0 ? STATS_HANDLED_DONE : STATS_DISPATCHED,
                  (uint64_t)atoll(stub->rest));
}

static void after_ready(struct stub *stub)
{
    char *after = NULL;

    if (behaves(stub, "ready-exit")) {
        stub->end_code = (int)strtol(stub->rest, &after, 10);
        stub->end_ms = clock_monotonic_ms() + atoll(after);
    }
    for (long i = behaves(stub, "talk") ? atol(stub->rest) : 0; i > 0; i--)
        fprintf(stderr, "talking, %ld to go\n", i);
}

static void on_stop(struct stub *stub)
{
    note(stub, "term");
    if (behaves(stub, "ignore-term"))
        return;
    stub->end_code = CHILD_EXIT_DONE;
    stub->held = behaves(stub, "hold-stop");
    if (stub->held)
        return;
    stub->end_ms = clock_monotonic_ms() + (behaves(stub, "slow-stop") ? atoll(stub->rest) : 0);
}

/* The monitor's has found all servers well. */
static void beat(struct stub *stub)
{
    struct stats_probe *probe = stub->child.stats->probe;

    if (strcmp(stub->child.name, "monitor") == 0) {
        atomic_store(&probe->redis_ok, 1);
        atomic_store(&probe->hub_ok, 1);
        atomic_store(&probe->probed_ms, clock_monotonic_ms());
    }
    stats_beat(stub->child.slot);
}

static bool is_released(const struct stub *stub)
{
    char *path = xasprintf("%s/release", stub->folder);
    bool there = access(path, F_OK) == 0;

    free(path);
    return there;
}

static void serve(struct stub *stub)
{
    int beat_ms = (int)child_beat_ms(&stub->child);

    beat(stub);
    while (stub->end_ms < 0 || clock_monotonic_ms() < stub->end_ms) {
        struct pollfd wait = {.fd = stub->child.signal_fd, .events = POLLIN};
        int timeout = clock_poll_timeout(stub->end_ms, clock_monotonic_ms());

        if (stub->held)
            timeout = POLL_MS;
        poll(&wait, 1, timeout >= 0 && timeout < beat_ms ? timeout : beat_ms);
        beat(stub);
        if (stub->held && is_released(stub))
            stub->end_ms = 0;
        switch (child_read_signal(&stub->child)) {
        case CHILD_STOP:
            on_stop(stub);
            break;
        case CHILD_QUIT:
            note(stub, "quit");
            stub->end_ms = 0;
            break;
        case CHILD_NONE:
            break;
        }
    }
}

int main(int argc, char **argv)
{
    struct stub stub = {.end_ms = -1};
    const char *slash = strrchr(argv[0], '/');

    child_start(&stub.child, argc, argv, slash != NULL ? slash + 1 : argv[0], "a test's child");
    stub.folder = getenv("STUB_DIR");
    read_behaviour(&stub);
    note(&stub, "start");
    before_ready(&stub);
    if (!behaves(&stub, "unready")) {
        if (!behaves(&stub, "reason"))
            stats_set(stub.child.slot, STATS_CONNECTED, 1);
        note(&stub, "ready");
        child_ready(&stub.child);
        log_info(LOG_PLAIN, "stub is ready");
    }
    after_ready(&stub);
    serve(&stub);
    note(&stub, "end");
    log_info(LOG_PLAIN, "stub ends");
    child_end(&stub.child);
    return stub.end_code;
}
