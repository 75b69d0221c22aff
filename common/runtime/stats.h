/* Statistics in shared memory: one cache-line-aligned slot for each process, plain atomics, no system call and no
 * lock on the hot path.
 *
 * The supervisor makes the memory (a memfd) and children inherit its descriptor; a program without a supervisor has
 * private memory. A slot outlives its process: the successor goes on adding to it, so totals never fall. The supervisor
 * clears the gauges when a child ends. stats_attach refuses memory of another layout version ("restart the service").
 * Units: µs for durations, bytes for sizes, wall µs for times of day. */
#ifndef COMMON_RUNTIME_STATS_H
#define COMMON_RUNTIME_STATS_H

#include "common/base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stats_counter {
    STATS_RECEIVED_QOS0, /* messages that the broker gave us */
    STATS_RECEIVED_QOS1,
    STATS_RECEIVED_QOS2,
    STATS_RECEIVED_BYTES, /* payload bytes */
    STATS_RECONNECTS,
    STATS_DISPATCHED, /* entries that Redis has accepted */
    STATS_DISPATCH_ERRORS,
    STATS_DISPATCH_REPLAYED,  /* dispatched entries that were sent again from the mark */
    STATS_DISPATCH_OVERSIZED, /* too large for the spool or for Redis: set aside in a file */
    STATS_SPOOL_PAUSED_US,
    STATS_SPOOL_DAMAGED,     /* records that recovery could not read */
    STATS_SPOOL_GAP,         /* records that Redis lost and that were no longer kept */
    STATS_HANDLED_DONE,      /* entries settled, by outcome */
    STATS_HANDLED_DROPPED,   /* by a route, without being published */
    STATS_HANDLED_CONFLATED, /* a newer message of the topic was published in its place */
    STATS_HANDLED_RETRY,
    STATS_HANDLED_REJECT,
    STATS_TRIMMED,
    STATS_CLAIMED, /* entries taken over from workers that are gone */
    STATS_MOVED,   /* delayed entries that fell due */
    STATS_HUB_OK,  /* the hub's answers */
    STATS_HUB_REFUSED,
    STATS_HUB_AUTH,
    STATS_HUB_BUSY,
    STATS_HUB_ERROR,        /* no answer: connection error or time-out */
    STATS_HANDLER_RESTARTS, /* a worker's: starts of handlers after the first of each */
    STATS_RESTARTS, /* written by the supervisor in a child's slot: starts after the first */
    STATS_CRASHES,  /* written by the supervisor in a child's slot: unexpected ends */
    STATS_COUNTERS
};

enum stats_gauge {
    STATS_CONNECTED, /* 1 while what the process needs is connected (broker, hub and Redis) */
    STATS_REDIS_CONNECTED,
    STATS_LAST_MESSAGE_US,
    STATS_SPOOL_BYTES,
    STATS_SPOOL_MESSAGES, /* not yet in Redis */
    STATS_SPOOL_LIMIT,
    STATS_SPOOL_PAUSED,       /* 1 while the spool is too full for the broker */
    STATS_OVERSIZED_MESSAGES, /* files of messages that were set aside, now there */
    STATS_OVERSIZED_BYTES,
    STATS_PREFETCHED,     /* entries read and not yet settled */
    STATS_BREAKER_OPEN,   /* 1 while the circuit breaker is not closed */
    STATS_WORKERS_WANTED, /* in the supervisor's slot: the wanted number of workers */
    STATS_REDIS_DEGRADED, /* 1 while a consumer's only reason is a slow link to Redis */
    /* Written by the supervisor in a child's slot, STATS_PID and the following also in its own: */
    STATS_UNWANTED,    /* 1 if the process will not be replaced when it ends */
    STATS_STATE,       /* enum stats_state */
    STATS_NEXT_TRY_MS, /* when the process is started again, monotonic; 0: not known */
    STATS_RATE,        /* messages done, in thousandths a second */
    STATS_PID,         /* 0: no process */
    STATS_STARTED_MS,  /* when it was started, monotonic */
    STATS_STARTED_US,  /* when it was started, time of day */
    STATS_GAUGES
};

enum stats_histogram {
    STATS_DISPATCH_US,   /* batch sent to reply */
    STATS_HANDLE_US,     /* entry read to settled */
    STATS_HUB_US,        /* one request to the hub */
    STATS_HANDLER_US,    /* message given to a handler to its answer */
    STATS_END_TO_END_US, /* received by the consumer to the hub's 200 */
    STATS_BATCH_MESSAGES, /* messages of a batch, times 1000 to fit the bounds, which are made for µs */
    STATS_HISTOGRAMS
};

/* Upper bounds of the buckets in µs; the last bucket is without bound. */
#define STATS_BUCKETS 16
extern const uint64_t STATS_BUCKET_BOUNDS_US[STATS_BUCKETS - 1];

/* The servers that the monitor asks. */
enum stats_server { STATS_REDIS, STATS_DATABASE, STATS_HUB, STATS_SERVERS };

#define STATS_REASON_SIZE 192
#define STATS_ANSWER_SIZE 256
#define STATS_EXIT_SIZE   96
#define STATS_NAME_SIZE   32
#define STATS_LOG_LINES   64
#define STATS_LOG_SIZE    508
#define STATS_SLOTS_MAX   256

struct stats_histogram_data {
    _Atomic uint64_t bucket[STATS_BUCKETS];
    _Atomic uint64_t sum_us;
};

/* The states of a supervisor's child: supervisor/states.h. */
enum stats_state {
    STATE_NONE, /* there is no supervisor */
    STATE_STOPPED,
    STATE_STARTING,
    STATE_RUNNING,
    STATE_BACKOFF,
    STATE_STOPPING,
    STATE_EXITED,
    STATE_FATAL,
    STATES_LEN
};
extern const char *const STATS_STATE_NAMES[STATES_LEN]; /* "backoff"; "" for STATE_NONE */

struct stats_log_line {
    _Atomic uint32_t version; /* odd while `text` is being written */
    char text[STATS_LOG_SIZE];
};

/* The slot of one process. Only that process writes it; while it does not exist, the supervisor. Both write into the
 * log. */
struct stats_slot {
    _Atomic uint64_t counter[STATS_COUNTERS];
    _Atomic uint64_t gauge[STATS_GAUGES];
    struct stats_histogram_data histogram[STATS_HISTOGRAMS];
    _Atomic uint64_t beat_ms;        /* last step of the process's loop, monotonic */
    _Atomic uint32_t reason_version; /* odd while `reason` is being written */
    _Atomic uint32_t exit_version;   /* odd while `last_exit` is being written */
    char reason[STATS_REASON_SIZE];  /* why the process is not ready; "" when it is */
    char last_exit[STATS_EXIT_SIZE]; /* by the supervisor: how the last process ended; or "" */
    char name[STATS_NAME_SIZE]; /* "consumer", "consumer:NAME", "worker", "monitor"; "" : free */
    uint32_t number;            /* number among slots of that name: worker 1, 2, ... */
    _Atomic uint32_t log_added; /* number of lines since the start */
    struct stats_log_line log[STATS_LOG_LINES]; /* a ring; unwritten lines take no memory */
} __attribute__((aligned(64)));

struct stats_answer {
    _Atomic uint32_t version; /* odd while `text` is being written */
    char text[STATS_ANSWER_SIZE];
};

/* What the monitor last learned from the servers; -1: not known. */
struct stats_probe {
    _Atomic int64_t probed_ms;  /* monotonic; 0 before the first */
    _Atomic int64_t redis_ok;   /* 1, 0 */
    _Atomic int64_t failure_ok; /* -1 also where none is configured */
    _Atomic int64_t hub_ok;     /* -1 also where none is configured */
    _Atomic int64_t ready;      /* entries in the stream that no worker has read */
    _Atomic int64_t pending;    /* read, not yet acknowledged */
    _Atomic int64_t delayed;
    _Atomic int64_t oldest_ms; /* age of the oldest entry in the stream */
    _Atomic int64_t
        other_groups;       /* groups that read the stream too, and lose entries that we remove */
    _Atomic int64_t failed; /* messages in the failure transport */
    struct stats_answer answer[STATS_SERVERS]; /* why a server can't be used; "" when it can */
} __attribute__((aligned(64)));

/* Each process's private record of the shared memory's address and size. A process that writes nonsense into the shared
 * memory spoils numbers, but makes no other process read beyond it. */
struct stats {
    size_t slots_len;
    _Atomic int *log_level; /* enum log_level of every process: a reload changes it */
    struct stats_probe *probe;
    struct stats_slot *slot;
};

/* Makes the memory for that many slots; *fd is its descriptor, not close-on-exec. The memory's size is sealed. */
MUST_CHECK int stats_create(struct stats **stats, size_t slots, int *fd, struct error *err);
/* Maps an inherited descriptor. -ERR_FORMAT if it has another layout. */
MUST_CHECK int stats_attach(struct stats **stats, int fd, struct error *err);
/* Makes private memory with a single slot, for a program without a supervisor. */
struct stats *stats_private(void);
void stats_free(struct stats *stats); /* NULL is allowed */

static inline void stats_add(struct stats_slot *slot, enum stats_counter counter, uint64_t amount)
{
    atomic_fetch_add_explicit(&slot->counter[counter], amount, memory_order_relaxed);
}

static inline uint64_t stats_counter(const struct stats_slot *slot, enum stats_counter counter)
{
    return atomic_load_explicit(&slot->counter[counter], memory_order_relaxed);
}

static inline void stats_set(struct stats_slot *slot, enum stats_gauge gauge, uint64_t value)
{
    atomic_store_explicit(&slot->gauge[gauge], value, memory_order_relaxed);
}

static inline uint64_t stats_gauge(const struct stats_slot *slot, enum stats_gauge gauge)
{
    return atomic_load_explicit(&slot->gauge[gauge], memory_order_relaxed);
}

void stats_observe(struct stats_slot *slot, enum stats_histogram histogram, int64_t duration_us);
void stats_beat(struct stats_slot *slot);
/* text "" means ready. Cheap if the text has not changed. */
void stats_reason(struct stats_slot *slot, const char *text);
/* Copies the reason, fit to be printed: valid UTF-8 without control characters. */
void stats_reason_read(const struct stats_slot *slot, char out[STATS_REASON_SIZE]);
/* Copies the name, fit to be printed, whatever a child has written over it. */
void stats_name_read(const struct stats_slot *slot, char out[STATS_NAME_SIZE]);
/* Clears the reason and gauges of a child that has ended, but not the gauges of the spool's files. */
void stats_clear_gauges(struct stats_slot *slot);
/* Empties a slot for another process. */
void stats_clear(struct stats_slot *slot);

void stats_exit(struct stats_slot *slot, const char *text);
void stats_exit_read(const struct stats_slot *slot, char out[STATS_EXIT_SIZE]);
/* STATE_NONE for a number that is none of a state. */
enum stats_state stats_state_read(const struct stats_slot *slot);
/* The process's anonymous memory in bytes. Cheap, and readable for any user, since the kernel keeps the count. -1:
 * there is no process. */
int64_t stats_memory(const struct stats_slot *slot);

/* Adds a line to the slot's log and removes the oldest. A callback log_taker with the slot as context. Any process and
 * thread may call it. */
void stats_log(void *slot, const char *line);
/* Copies the index-th line that is kept, the oldest first; false behind the newest. */
bool stats_log_read(const struct stats_slot *slot, uint32_t index, char out[STATS_LOG_SIZE]);

/* Sets and copies the monitor's text about a server; only one thread of one monitor sets it. */
void stats_answer(struct stats_probe *probe, enum stats_server server, const char *text);
void stats_answer_read(const struct stats_probe *probe, enum stats_server server,
                       char out[STATS_ANSWER_SIZE]);

#endif
