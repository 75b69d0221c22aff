/* A stream entry between being read and being settled, and the batch that owns its bytes. */
#ifndef WORKER_ENTRY_H
#define WORKER_ENTRY_H

#include "common/base/arena.h"
#include "common/client/queue.h"
#include "common/wire/envelope.h"

struct intake;

/* What one read brought. Freed with its last entry. */
struct batch {
    struct arena arena;
    size_t open; /* entries not yet settled */
    struct entry *entries;
};

struct entry {
    struct stream_id id;
    struct batch *batch;      /* owner of the bytes below */
    struct intake *intake;    /* where it came from, and where it is acknowledged */
    struct bytes value;       /* the field as it was */
    struct envelope envelope; /* decoded; topic and payload are in it */
    struct bytes identity;    /* X-Mqtt-Id, or the stream id of an entry that PHP dispatched */
    int64_t read_us;          /* monotonic */
    uint32_t deliveries;
    bool rejecting;      /* waits for its row in the failure transport */
    bool careful;        /* handled alone, and only while it is charged */
    bool charged;        /* its delivery count stands one higher, in case we die of it */
    uint8_t strikes;     /* how often it alone stopped the hub */
    uint64_t refused_at; /* how many others had passed when its token was refused; 0: it was not */
    struct entry *next;  /* in its lane, or in the intake's list of those handled one at a time */
    struct entry *open_next; /* all that its intake has open */
    struct entry *open_previous;
};

struct batch *batch_new(size_t entries);
/* The entry is settled: gives its batch back with the last one. */
void entry_release(struct entry *entry);

#endif
