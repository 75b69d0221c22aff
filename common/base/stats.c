#include "common/base/stats.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x7374617473626d71)

const uint64_t STATS_BUCKET_BOUNDS_US[STATS_BUCKETS - 1] = {
    250,    500,    1000,   2500,    5000,    10000,   25000,   50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

/* Two builds that disagree about the layout never share memory by mistake. The last member's place is
 * in it because a slot's size is rounded up. */
static uint32_t layout_version(void)
{
    return (uint32_t)(sizeof(struct stats_slot) * 31 + sizeof(struct stats_probe) * 7 +
                      offsetof(struct stats_slot, number) * 3 + STATS_COUNTERS * 131 +
                      STATS_GAUGES * 17 + STATS_HISTOGRAMS);
}

static size_t memory_size(size_t slots)
{
    return sizeof(struct stats) + slots * sizeof(struct stats_slot);
}

static void initialise(struct stats *stats, size_t slots)
{
    stats->magic = MAGIC;
    stats->version = layout_version();
    stats->slots_len = (uint32_t)slots;
    atomic_store(&stats->probe.ready, -1);
    atomic_store(&stats->probe.pending, -1);
    atomic_store(&stats->probe.delayed, -1);
    atomic_store(&stats->probe.oldest_ms, -1);
    atomic_store(&stats->probe.failed, -1);
    atomic_store(&stats->probe.redis_ok, -1);
    atomic_store(&stats->probe.failure_ok, -1);
    atomic_store(&stats->probe.hub_ok, -1);
}

int stats_create(struct stats **stats, size_t slots, int *fd, struct error *err)
{
    size_t size = memory_size(slots);
    int memory = memfd_create("mqtt-bridge-stats", 0);

    if (memory < 0)
        return error_system(err, "memfd_create");
    if (ftruncate(memory, (off_t)size) < 0) {
        error_system(err, "statistics of %zu bytes", size);
        close(memory);
        return -ERR_SYSTEM;
    }
    struct stats *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (map == MAP_FAILED) {
        error_system(err, "statistics of %zu bytes", size);
        close(memory);
        return -ERR_SYSTEM;
    }
    initialise(map, slots);
    *stats = map;
    *fd = memory;
    return 0;
}

int stats_attach(struct stats **stats, int fd, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return error_system(err, "statistics");
    if ((size_t)info.st_size < sizeof(struct stats))
        return error_set(err, ERR_FORMAT, "statistics: too short; restart the service");
    struct stats *map = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_system(err, "statistics");
    if (map->magic != MAGIC || map->version != layout_version() ||
        (size_t)info.st_size < memory_size(map->slots_len)) {
        munmap(map, (size_t)info.st_size);
        return error_set(err, ERR_FORMAT,
                         "statistics: made by another version; restart the service");
    }
    *stats = map;
    return 0;
}

struct stats *stats_private(void)
{
    struct stats *stats = NULL;
    void *memory =
        mmap(NULL, memory_size(1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        memory = xcalloc(1, memory_size(1));
    stats = memory;
    initialise(stats, 1);
    return stats;
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

void stats_reason(struct stats_slot *slot, const char *text)
{
    if (strncmp(slot->reason, text, STATS_REASON_SIZE - 1) == 0)
        return;
    atomic_fetch_add_explicit(&slot->reason_turn, 1, memory_order_acq_rel);
    snprintf(slot->reason, STATS_REASON_SIZE, "%s", text);
    atomic_fetch_add_explicit(&slot->reason_turn, 1, memory_order_release);
}

void stats_reason_read(const struct stats_slot *slot, char out[STATS_REASON_SIZE])
{
    for (int attempt = 0; attempt < 100; attempt++) {
        uint32_t before = atomic_load_explicit(&slot->reason_turn, memory_order_acquire);

        memcpy(out, slot->reason, STATS_REASON_SIZE);
        out[STATS_REASON_SIZE - 1] = '\0';
        atomic_thread_fence(memory_order_acquire);
        uint32_t after = atomic_load_explicit(&slot->reason_turn, memory_order_relaxed);
        if (before == after && before % 2 == 0)
            return;
    }
}

void stats_clear_gauges(struct stats_slot *slot)
{
    for (size_t i = 0; i < STATS_GAUGES; i++)
        stats_set(slot, (enum stats_gauge)i, 0);
    /* The writer may have died in the middle of a reason: make the turn even again. */
    if (atomic_load(&slot->reason_turn) % 2 != 0)
        atomic_fetch_add(&slot->reason_turn, 1);
    stats_reason(slot, "");
}
