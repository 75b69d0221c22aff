/* The transport that an entry came from: its connection for acknowledgements, its open entries by state, their delivery
 * counts, and its health. What is read, and when, is reader.h's business.
 *
 * A redelivered entry gets one more delivery in Redis before it is handled. So a message that kills its workers goes to
 * the failure transport after `delivery_limit` deaths. The count is taken back while the entry merely waits for the
 * hub: a worker that is killed then did not die of it. Redis keeps the count for whichever worker claims the entry. A
 * worker that ends in good order sets the count of its new entries to 0: whoever reads those finds them new. Entries
 * that a handler has in hand keep a count of 1: a message that hangs its handler must not come back as new.
 * Other files may read the fields; only source.c and the reader change them. One thread. */
#ifndef WORKER_SOURCE_H
#define WORKER_SOURCE_H

#include "common/base/log.h"
#include "common/client/queue_group.h"
#include "common/runtime/child.h"
#include "worker/entry.h"

struct settle;

/* Open entries of all sources, their bytes, and the entries that they carry, by state. */
struct load {
    size_t entries[ENTRY_STATES];
    size_t bytes[ENTRY_STATES];
    size_t carried[ENTRY_STATES];
    size_t requested; /* asked of Redis and not yet here */
};

/* The sum of the states that are neither aside, gathered nor failing. */
static inline size_t load_at_hand(const size_t by_state[ENTRY_STATES])
{
    return by_state[ENTRY_QUEUED] + by_state[ENTRY_WAITING] + by_state[ENTRY_HANDLING] +
           by_state[ENTRY_CURRENT];
}

/* Entries that are set aside take twice the limit. They can exceed it, since each lane keeps its first entry. */
static inline bool load_is_crowded(const struct load *load, size_t limit)
{
    return load->bytes[ENTRY_ASIDE] / 2 >= limit;
}

/* Commands that Redis may refuse while reading goes on. The error shows as trouble until it is cleared. */
enum source_error {
    ERROR_ACKNOWLEDGE,
    ERROR_RENEW,
    ERROR_DUE,
    ERROR_DEAD,
    ERROR_IDLE,
    SOURCE_ERRORS
};

/* Redis is gone, or refused a command without which nothing goes on. */
typedef void source_broken(void *context, int result, const struct error *err);

/* What is known of an entry that was forgotten. Its count in Redis is one too high, for nobody has died of it; or its
 * handler has died of it since. */
struct overcount {
    struct stream_id id;
    uint32_t deliveries; /* as the count should be */
    bool died;
};

/* The handler that had the entry in hand has died: the entry is to be handled alone. */
typedef void source_redeliver(void *context, struct entry *entry);

struct source {
    const struct child *child;
    struct queue *writer; /* a connection for everything but reading what is new */
    char *consumer;
    bool behind; /* more entries have waited in Redis for some time */
    bool leased; /* we have the lease: the consumer name and its delivery counts are ours */
    source_broken *broken;
    source_redeliver *redeliver;
    void *context;
    struct settle *settle;

    struct entry *open;           /* entries that are read and not settled */
    size_t entries[ENTRY_STATES]; /* open entries by state */
    struct load *total;
    struct entry_ids unread;    /* to be read before new entries */
    struct entry_ids unwritten; /* to be rejected, but no more rows may wait now */
    /* The entry whose delivery was counted last. NULL once it is settled, waits for the hub, or is with a handler. */
    struct entry *counted;
    struct entry
        *counting;    /* the entry whose delivery is being counted; NULL: none, or it is gone */
    bool is_counting; /* Redis has not answered the count yet */
    int64_t counted_ms;
    struct overcount *overcounts; /* until the entries are read again */
    size_t overcounts_len;
    uint64_t handled;
    uint64_t failed; /* handled entries that were not done */
    int64_t due_ms;  /* next look into the delayed set; monotonic */
    size_t largest;  /* bytes of the largest value lately */

    char trouble[200]; /* why nothing is read; "" : none */
    struct log_fault fault;
    char error[SOURCE_ERRORS][160];
    struct log_fault error_fault[SOURCE_ERRORS];
    struct log_fault group_fault;
};

/* instance: the first part of the consumer's name, where the DSN has none. total: shared by all sources. */
MUST_CHECK int source_new(struct source **source, const struct child *child,
                          const struct settings_transport *transport, const char *instance,
                          struct load *total, struct error *err);
void source_free(struct source *source);
const char *source_stream(const struct source *source);

void source_open(struct source *source, struct entry *entry, enum entry_state state);
void source_set_state(struct entry *entry, enum entry_state state);
/* The entry waits for the hub, until it is settled, and other entries go on. The delivery count of the entry is taken
 * back until the entry is sent again. */
void source_set_aside(struct entry *entry);
/* The entry waits for the end of a window, and its count is taken back. An entry that is aside stays aside. */
void source_set_gathered(struct entry *entry);
/* The entry waits for its row in the failure transport; its value is freed. */
void source_set_failing(struct entry *entry);
/* Batch: the entry carries `other`, which has the same source and carries nothing. `other` is released. */
void source_carry(struct entry *entry, struct entry *other);
/* Latest: the entry is published in place of `other`, which has the same source, and of those that `other` carries.
 * They come before those that the entry carries already. The entry is aside if either is. `other` is released. */
void source_conflate(struct entry *entry, struct entry *other);
void source_add_bytes(struct entry *entry, size_t bytes); /* the entry holds so many bytes more */
/* The entry no longer carries others: they are acknowledged, or will be read again. */
void source_uncarry(struct entry *entry);
/* Takes the carried ids off the entry: returns a new entry for the last id, without a value and aside, which carries
 * the others. NULL: the entry carries nothing. */
struct entry *source_take_carried(struct entry *entry);
void source_release(struct entry *entry); /* the entry is no longer open, and is freed */
/* Takes the entry's count back and releases it: it stays pending, and was not the cause of a death. */
void source_put_back(struct entry *entry);
/* Releases the entry since Redis is away, or has refused a command: its count is taken back when it is read again. */
void source_forget(struct entry *entry);
/* An entry has left with an outcome. */
void source_handled(struct source *source, bool done);
/* The delayed set has one more member, due then (wall ms). */
void source_will_be_due(struct source *source, int64_t due_ms);

/* We have the lease, and Redis is connected. */
bool source_can_count(const struct source *source);
/* To be called before an entry is sent or handled: true if its delivery is counted, or needs no count. Else the count
 * is asked of Redis; call again in the next step. */
bool source_count_delivery(struct entry *entry);
/* As source_count_delivery, before the hub's answer is acted on. Also true without Redis, where nothing can be
 * counted. */
bool source_may_settle(struct entry *entry);
/* The entry's handler has answered: from now on the entry waits for the hub. */
void source_wait_for_hub(struct entry *entry);
/* The handler that had the entry in hand has died: the count stands, and the entry is now a redelivered one. */
void source_charge_delivery(struct entry *entry);
/* As source_charge_delivery, for an entry that was forgotten while the handler had it in hand. deliveries and counted:
 * as the entry was then. Returns the entry if it has been read again and waits, else NULL: then it is charged once it
 * is read. */
struct entry *source_charge_forgotten(struct source *source, struct stream_id id,
                                      uint32_t deliveries, bool counted);
/* The entry is not begun after all: its count is taken back. */
void source_uncount(struct entry *entry);
/* The entry has been read: takes back the count that Redis has too much, or charges a death since it was forgotten. */
void source_correct_deliveries(struct entry *entry);
/* Before the lease is given back: writes the counts of entries that were forgotten and have not been read again. */
void source_write_overcounts(struct source *source);
/* All pending entries have been read, or another process has had the lease: then the counts in Redis stand. */
void source_forget_overcounts(struct source *source);
/* Before the lease is given back: all counts are taken back. */
void source_uncount_all(struct source *source);

/* How many entries to ask for, so that about so many bytes come. */
size_t source_page_size(const struct source *source, size_t max, size_t bytes);
void source_learn_size(struct source *source, size_t largest);

void source_fail(struct source *source, int result, const struct error *err);
void source_mark_healthy(struct source *source);
/* Logs an error if another consumer group reads the stream, for which our XDEL removes entries too. */
void source_check_groups(struct source *source);
void source_report_error(struct source *source, enum source_error about, const struct error *err);
void source_clear_error(struct source *source, enum source_error about);
const char *source_trouble(const struct source *source); /* "" : none */

#endif
