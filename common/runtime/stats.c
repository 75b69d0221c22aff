#include "common/runtime/stats.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x7374617473626d71)

const char *const STATS_STATE_NAMES[STATES_LEN] = {
    [STATE_NONE] = "",           [STATE_STOPPED] = "stopped", [STATE_STARTING] = "starting",
    [STATE_RUNNING] = "running", [STATE_BACKOFF] = "backoff", [STATE_STOPPING] = "stopping",
    [STATE_EXITED] = "exited",   [STATE_FATAL] = "fatal"};

const uint64_t STATS_BUCKET_BOUNDS_US[STATS_BUCKETS - 1] = {
    250,    500,    1000,   2500,    5000,    10000,   25000,   50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

/* The head of the shared memory; the probe and the slots follow. */
struct head {
    uint64_t magic;
    uint32_t version; /* layout_version */
    uint32_t slots_len;
    _Atomic int log_level;
} __attribute__((aligned(64)));

/* A number for the layout, so that builds with different layouts never share memory. The last member's offset is in it,
 * since a slot's size is rounded up. */
static uint32_t layout_version(void)
{
    return (uint32_t)(sizeof(struct stats_slot) * 31 + sizeof(struct stats_probe) * 7 +
                      offsetof(struct stats_slot, number) * 3 +
                      offsetof(struct head, log_level) * 5 + STATS_COUNTERS * 131 +
                      STATS_GAUGES * 17 + STATS_HISTOGRAMS);
}

static size_t memory_size(size_t slots)
{
    return sizeof(struct head) + sizeof(struct stats_probe) + slots * sizeof(struct stats_slot);
}

static struct stats *view(char *memory, size_t slots)
{
    struct stats *stats = xcalloc(1, sizeof(*stats));

    stats->slots_len = slots;
    stats->log_level = &((struct head *)(void *)memory)->log_level;
    stats->probe = (struct stats_probe *)(void *)(memory + sizeof(struct head));
    stats->slot = (struct stats_slot *)(void *)(memory + memory_size(0));
    return stats;
}

static struct stats *initialise(char *memory, size_t slots)
{
    struct head *head = (struct head *)(void *)memory;
    struct stats *stats = view(memory, slots);
    struct stats_probe *probe = stats->probe;

    head->magic = MAGIC;
    head->version = layout_version();
    head->slots_len = (uint32_t)slots;
    atomic_store(&probe->ready, -1);
    atomic_store(&probe->pending, -1);
    atomic_store(&probe->delayed, -1);
    atomic_store(&probe->oldest_ms, -1);
    atomic_store(&probe->other_groups, -1);
    atomic_store(&probe->failed, -1);
    atomic_store(&probe->redis_ok, -1);
    atomic_store(&probe->failure_ok, -1);
    atomic_store(&probe->hub_ok, -1);
    return stats;
}

int stats_create(struct stats **stats, size_t slots, int *fd, struct error *err)
{
    size_t size = memory_size(slots);
    int memory = memfd_create("mqtt-bridge-stats", MFD_ALLOW_SEALING);

    if (memory < 0)
        return error_system(err, "memfd_create");
    if (ftruncate(memory, (off_t)size) < 0 ||
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        error_system(err, "statistics of %zu bytes", size);
        close(memory);
        return -ERR_SYSTEM;
    }
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (map == MAP_FAILED) {
        error_system(err, "statistics of %zu bytes", size);
        close(memory);
        return -ERR_SYSTEM;
    }
    *stats = initialise(map, slots);
    *fd = memory;
    return 0;
}

int stats_attach(struct stats **stats, int fd, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return error_system(err, "statistics");
    size_t size = (size_t)info.st_size;
    if (size < memory_size(0))
        return error_set(err, ERR_FORMAT, "statistics: too short; restart the service");
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_system(err, "statistics");
    const struct head *head = map;
    size_t slots = head->slots_len;
    if (head->magic != MAGIC || head->version != layout_version() || size != memory_size(slots)) {
        munmap(map, size);
        return error_set(err, ERR_FORMAT,
                         "statistics: made by another version; restart the service");
    }
    *stats = view(map, slots);
    return 0;
}

struct stats *stats_private(void)
{
    void *memory =
        mmap(NULL, memory_size(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        abort();
    return initialise(memory, 1);
}

void stats_free(struct stats *stats)
{
    if (stats == NULL)
        return;
    munmap((char *)stats->probe - sizeof(struct head), memory_size(stats->slots_len));
    free(stats);
}

void stats_observe(struct stats_slot *slot, enum stats_histogram histogram, int64_t duration_us)
{
    struct stats_histogram_data *data = &slot->histogram[histogram];
    uint64_t duration = duration_us > 0 ? (uint64_t)duration_us : 0;
    size_t i = 0;

    while (i < STATS_BUCKETS - 1 && duration > STATS_BUCKET_BOUNDS_US[i])
        i++;
    atomic_fetch_add_explicit(&data->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&data->sum_us, duration, memory_order_relaxed);
}

void stats_beat(struct stats_slot *slot)
{
    atomic_store_explicit(&slot->beat_ms, (uint64_t)clock_monotonic_ms(), memory_order_relaxed);
}

/* Makes the version even again after its writer has died while writing. */
static void make_even(_Atomic uint32_t *version)
{
    if (atomic_load(version) % 2 != 0)
        atomic_fetch_add(version, 1);
}

static void write_text(_Atomic uint32_t *version, char *to, size_t size, const char *text)
{
    if (strncmp(to, text, size - 1) == 0)
        return;
    atomic_fetch_add_explicit(version, 1, memory_order_acq_rel);
    snprintf(to, size, "%s", text);
    atomic_fetch_add_explicit(version, 1, memory_order_release);
}

/* Copies a text and makes it printable: it may come from a server, and a writer that was killed leaves half a text. */
static void read_text(const _Atomic uint32_t *version, const char *from, size_t size, char *out)
{
    char copy[STATS_LOG_SIZE];

    for (int attempt = 0; attempt < 100; attempt++) {
        uint32_t before = atomic_load_explicit(version, memory_order_acquire);

        memcpy(copy, from, size);
        atomic_thread_fence(memory_order_acquire);
        uint32_t after = atomic_load_explicit(version, memory_order_relaxed);
        if (before == after && before % 2 == 0)
            break;
    }
    bytes_to_printable((struct bytes){copy, strnlen(copy, size)}, out, size);
}

_Static_assert(STATS_REASON_SIZE <= STATS_LOG_SIZE && STATS_ANSWER_SIZE <= STATS_LOG_SIZE &&
                   STATS_EXIT_SIZE <= STATS_LOG_SIZE,
               "read_text has room for each");

void stats_reason(struct stats_slot *slot, const char *text)
{
    write_text(&slot->reason_version, slot->reason, STATS_REASON_SIZE, text);
}

void stats_reason_read(const struct stats_slot *slot, char out[STATS_REASON_SIZE])
{
    read_text(&slot->reason_version, slot->reason, STATS_REASON_SIZE, out);
}

void stats_name_read(const struct stats_slot *slot, char out[STATS_NAME_SIZE])
{
    bytes_to_printable((struct bytes){slot->name, strnlen(slot->name, STATS_NAME_SIZE)}, out,
                       STATS_NAME_SIZE);
}

/* True for gauges of files, which exist without the process too. */
static bool outlives_its_process(enum stats_gauge gauge)
{
    return gauge == STATS_SPOOL_BYTES || gauge == STATS_SPOOL_MESSAGES ||
           gauge == STATS_SPOOL_LIMIT || gauge == STATS_OVERSIZED_MESSAGES ||
           gauge == STATS_OVERSIZED_BYTES;
}

void stats_clear_gauges(struct stats_slot *slot)
{
    for (size_t i = 0; i < STATS_GAUGES; i++)
        if (!outlives_its_process((enum stats_gauge)i))
            stats_set(slot, (enum stats_gauge)i, 0);
    make_even(&slot->reason_version);
    stats_reason(slot, "");
}

void stats_clear(struct stats_slot *slot)
{
    memset(slot, 0,
           offsetof(struct stats_slot, log)); /* writing to the log's lines would take memory */
}

void stats_exit(struct stats_slot *slot, const char *text)
{
    make_even(&slot->exit_version);
    write_text(&slot->exit_version, slot->last_exit, STATS_EXIT_SIZE, text);
}

void stats_exit_read(const struct stats_slot *slot, char out[STATS_EXIT_SIZE])
{
    read_text(&slot->exit_version, slot->last_exit, STATS_EXIT_SIZE, out);
}

enum stats_state stats_state_read(const struct stats_slot *slot)
{
    uint64_t state = stats_gauge(slot, STATS_STATE);

    return state < STATES_LEN ? (enum stats_state)state : STATE_NONE;
}

/* From the second and third number of /proc/PID/statm: resident pages, and those of files and shared memory. */
int64_t stats_memory(const struct stats_slot *slot)
{
    uint64_t pid = stats_gauge(slot, STATS_PID);
    char path[48];
    char text[256];
    long resident;
    long shared;

    snprintf(path, sizeof(path), "/proc/%llu/statm", (unsigned long long)pid);
    int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return -1;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    if (sscanf(text, "%*d %ld %ld", &resident, &shared) != 2 || resident <= 0)
        return -1;
    return (int64_t)(resident - shared) * sysconf(_SC_PAGESIZE);
}

void stats_log(void *to, const char *line)
{
    struct stats_slot *slot = to;
    struct stats_log_line *entry =
        &slot->log[atomic_fetch_add(&slot->log_added, 1) % STATS_LOG_LINES];

    make_even(&entry->version);
    write_text(&entry->version, entry->text, STATS_LOG_SIZE, line);
}

bool stats_log_read(const struct stats_slot *slot, uint32_t index, char out[STATS_LOG_SIZE])
{
    uint32_t added = atomic_load(&slot->log_added);
    uint32_t first = added > STATS_LOG_LINES ? added - STATS_LOG_LINES : 0;

    if (index >= added - first)
        return false;
    const struct stats_log_line *entry = &slot->log[(first + index) % STATS_LOG_LINES];
    read_text(&entry->version, entry->text, STATS_LOG_SIZE, out);
    return true;
}

void stats_answer(struct stats_probe *probe, enum stats_server server, const char *text)
{
    struct stats_answer *answer = &probe->answer[server];

    make_even(&answer->version);
    write_text(&answer->version, answer->text, STATS_ANSWER_SIZE, text);
}

void stats_answer_read(const struct stats_probe *probe, enum stats_server server,
                       char out[STATS_ANSWER_SIZE])
{
    const struct stats_answer *answer = &probe->answer[server];

    read_text(&answer->version, answer->text, STATS_ANSWER_SIZE, out);
}
