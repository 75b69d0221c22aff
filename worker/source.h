/* One transport as an entry needs it: where it is acknowledged, what of it is open and in which state, its
 * delivery count, and how the transport is doing. What is read, and when, is reader.h's business.
 *
 * A redelivered entry is counted in Redis with one more delivery before it is handled: one that kills its worker
 * goes to the failure transport after `delivery_limit` deaths. The count is taken back while we merely wait
 * for the hub: who is killed then did not die of it. It is kept in Redis, where whoever takes the entry
 * over finds it. The fields may be read by anybody; they are changed here and by the reader. One thread. */
#ifndef WORKER_SOURCE_H
#define WORKER_SOURCE_H

#include "common/base/log.h"
#include "common/client/queue_group.h"
#include "common/runtime/child.h"
#include "worker/entry.h"

struct settle;

/* Open entries of all sources, their bytes, and how many they carry, by state. */
struct load {
    size_t entries[ENTRY_STATES];
    size_t bytes[ENTRY_STATES];
    size_t carried[ENTRY_STATES];
    size_t requested; /* asked for and not yet here */
};

/* Neither set aside, nor of a window, nor waiting for a row. */
static inline size_t load_at_hand(const size_t by_state[ENTRY_STATES])
{
    return by_state[ENTRY_QUEUED] + by_state[ENTRY_WAITING] + by_state[ENTRY_HANDLING] +
           by_state[ENTRY_CURRENT];
}

/* What is set aside has twice as many bytes as it may have: each lane keeps its first entry, whatever the limit. */
static inline bool load_is_crowded(const struct load *load, size_t limit)
{
    return load->bytes[ENTRY_ASIDE] / 2 >= limit;
}

/* What can be refused while the rest goes on; it shows as trouble until it is cleared. */
enum source_error {
    ERROR_ACKNOWLEDGE,
    ERROR_RENEW,
    ERROR_DUE,
    ERROR_DEAD,
    ERROR_IDLE,
    SOURCE_ERRORS
};

/* Redis said no to something that nothing goes on without, or is gone. */
typedef void source_broken(void *context, int result, const struct error *err);

/* Who had the entry in hand has died: it is to be handled alone. */
typedef void source_redeliver(void *context, struct entry *entry);

struct source {
    const struct child *child;
    struct queue *writer; /* a connection for everything but reading what is new */
    char *consumer;
    bool leased; /* the consumer name is ours, and with it what Redis counts of its entries */
    source_broken *broken;
    source_redeliver *redeliver;
    void *context;
    struct settle *settle;

    struct entry *open;           /* all that is read and not settled */
    size_t entries[ENTRY_STATES]; /* that are open, by state */
    struct load *total;
    struct entry_ids unread;    /* to be read before anything new */
    struct entry_ids unwritten; /* rejected while no more rows could wait */
    struct entry *counted;  /* the last one whose delivery was counted, until it is settled, waits,
                               or is a handler's */
    struct entry *counting; /* is being counted; NULL: none, or it is gone */
    bool is_counting;       /* the answer is not here yet */
    int64_t counted_ms;
    uint64_t handled;
    uint64_t failed; /* of the handled ones */
    int64_t due_ms;  /* the delayed set is looked through then; monotonic */
    size_t largest;  /* bytes of the largest value of late */

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

/* Entries: ------------------------------------------------------------------------------------- */

void source_open(struct source *source, struct entry *entry, enum entry_state state);
void source_set_state(struct entry *entry, enum entry_state state);
/* It waits for the hub: its count is taken back until it is sent again, and others go on beside it, for all the
 * time until it is settled. */
void source_set_aside(struct entry *entry);
/* Its count is taken back until its window is over. What is aside stays aside. */
void source_set_gathered(struct entry *entry);
/* It waits for its row, without its value. */
void source_set_failing(struct entry *entry);
/* Of a batch: `other` of the same source, which carries nothing, is published with the entry. It is released. */
void source_carry(struct entry *entry, struct entry *other);
/* Of `latest`: the entry is published in place of `other` of the same source, and of what that carries. They stand
 * before all that the entry carries already. Aside if either is. `other` is released. */
void source_conflate(struct entry *entry, struct entry *other);
void source_add_bytes(struct entry *entry, size_t bytes); /* it holds so many more */
/* What it carries is forgotten: it is acknowledged, or read again. */
void source_uncarry(struct entry *entry);
/* An entry without its value in place of what that one carries: the last of it, which carries the others; it is aside.
 * NULL: that one carries nothing. */
struct entry *source_take_carried(struct entry *entry);
void source_release(struct entry *entry); /* it is open no longer, and its memory is given back */
/* The same, and nobody died of it: it stays pending. */
void source_put_back(struct entry *entry);
/* It has left with an outcome. */
void source_handled(struct source *source, bool done);
/* The delayed set has one more, due then (wall ms). */
void source_will_be_due(struct source *source, int64_t due_ms);

/* The consumer name is ours, and Redis is there. */
bool source_can_count(const struct source *source);
/* Before anything is done with the entry: true if it is counted, or needs no count. Else that is asked for; ask
 * again with the next step. */
bool source_count_delivery(struct entry *entry);
/* The same before the hub's answer is acted on; without Redis, where nothing can be counted, true. */
bool source_may_settle(struct entry *entry);
/* Its handler has answered: from now on it waits for the hub. */
void source_wait_for_hub(struct entry *entry);
/* Who had it in hand has died: its count stands, and from now on it is a redelivered one. */
void source_charge_delivery(struct entry *entry);
/* It is not begun after all: its count is taken back. */
void source_uncount(struct entry *entry);
/* The lease is about to be given back: no count stands. */
void source_uncount_all(struct source *source);

/* How many to ask for, so that about so many bytes come. */
size_t source_page_size(const struct source *source, size_t max, size_t bytes);
void source_learn_size(struct source *source, size_t largest);

/* Health: -------------------------------------------------------------------------------------- */

void source_fail(struct source *source, int result, const struct error *err);
void source_mark_healthy(struct source *source);
/* Says loudly if another consumer group reads the stream, whose entries we delete. */
void source_look_for_groups(struct source *source);
void source_report_error(struct source *source, enum source_error about, const struct error *err);
void source_clear_error(struct source *source, enum source_error about);
const char *source_trouble(const struct source *source); /* "" : none */

#endif
