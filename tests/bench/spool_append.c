/* What the spool costs. Appends of 100-byte messages are measured beside the bare pwritev that they are made of, and
 * with a reader that commits in batches.
 *
 *     build/tests/bench/spool_append [MESSAGES] [DIRECTORY]       300000, /tmp
 */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "consumer/spool/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256

struct bench {
    struct spool *spool;
    int messages;
    double append_us; /* of the writing thread's time, one message */
    double append_cpu_us;
};

static char directory[256];

static void clear_directory(void)
{
    DIR *listing = opendir(directory);
    const struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing != NULL)
        closedir(listing);
}

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "spool_append: %s\n", text);
    exit(1);
}

static int64_t thread_cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static double bare_pwritev_us(int messages)
{
    char head[40] = "", topic[19] = "", payload[100] = "", padding[1] = "";
    char path[300];
    struct iovec parts[] = {{head, 40}, {topic, 19}, {payload, 100}, {padding, 1}};

    snprintf(path, sizeof(path), "%s/bare", directory);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)messages * 160) != 0)
        die("no space");
    int64_t start = clock_monotonic_us();
    for (int i = 0; i < messages; i++)
        if (pwritev(fd, parts, 4, (off_t)i * 160) != 160)
            die("pwritev");
    double each = (double)(clock_monotonic_us() - start) / messages;
    close(fd);
    unlink(path);
    return each;
}

static void *append_all(void *context)
{
    struct bench *bench = context;
    char payload[100];
    struct error err;

    memset(payload, 'x', sizeof(payload));
    int64_t start = clock_monotonic_us();
    int64_t start_cpu = thread_cpu_us();
    for (int i = 0; i < bench->messages; i++) {
        struct record message = {.received_us = i,
                                 .qos = 1,
                                 .topic = BYTES("sensors/room1/value"),
                                 .payload = {payload, sizeof(payload)}};

        if (spool_append(bench->spool, &message, &err) < 0)
            die(err.text);
    }
    bench->append_us = (double)(clock_monotonic_us() - start) / bench->messages;
    bench->append_cpu_us = (double)(thread_cpu_us() - start_cpu) / bench->messages;
    return NULL;
}

static void open_spool(struct bench *bench, int64_t size)
{
    struct error err;
    struct spool_options options = {
        .dir = directory,
        .size = size,
        .retain = 64 * 1024 * 1024,
        .destination = "none",
    };

    if (spool_open(&bench->spool, &options, &err) < 0)
        die(err.text);
}

/* As main does it, but that Redis answers at once. */
static void read_all(struct bench *bench)
{
    struct record message;
    struct error err;
    int read = 0;

    while (read < bench->messages) {
        int next = spool_next(bench->spool, &message, &err);

        if (next < 0)
            die(err.text);
        read += next;
        if (next > 0 && read % BATCH != 0)
            continue;
        struct spool_position position = spool_position(bench->spool);
        spool_commit(bench->spool, &position);
        if (next == 0 && spool_arm_wakeup(bench->spool)) {
            struct pollfd fd = {.fd = spool_event_fd(bench->spool), .events = POLLIN};

            poll(&fd, 1, -1);
            spool_disarm_wakeup(bench->spool);
        }
    }
}

int main(int argc, char **argv)
{
    struct bench bench = {.messages = argc > 1 ? atoi(argv[1]) : 300000};
    pthread_t writer;

    snprintf(directory, sizeof(directory), "%s/spool-bench-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (mkdtemp(directory) == NULL)
        die("no directory");
    double bare = bare_pwritev_us(bench.messages);

    open_spool(&bench, (int64_t)bench.messages * 400 + 256 * 1024 * 1024);
    append_all(&bench);
    printf("append: %.2f us a message, %.2f times a bare pwritev (%.2f us)\n", bench.append_us,
           bench.append_us / bare, bare);
    int64_t start = clock_monotonic_us();
    read_all(&bench);
    printf("read and commit: %.2f us a message\n",
           (double)(clock_monotonic_us() - start) / bench.messages);
    spool_close(bench.spool);
    clear_directory();

    open_spool(&bench, (int64_t)bench.messages * 400 + 256 * 1024 * 1024);
    start = clock_monotonic_us();
    pthread_create(&writer, NULL, append_all, &bench);
    read_all(&bench);
    pthread_join(writer, NULL);
    printf("append with a reader: %.2f us a message, %.2f of them CPU; both done after %.2f us a "
           "message\n",
           bench.append_us, bench.append_cpu_us,
           (double)(clock_monotonic_us() - start) / bench.messages);
    spool_close(bench.spool);
    clear_directory();
    rmdir(directory);
    return 0;
}
