/* A stream entry between being read and being settled, which owns its bytes; and what is kept of one that is left in
 * Redis (struct entry_ids). */
#ifndef WORKER_ENTRY_H
#define WORKER_ENTRY_H

#include "common/base/arena.h"
#include "common/client/queue.h"
#include "common/wire/envelope.h"
#include "common/wire/handler_line.h"

struct source;
struct routes_match;

enum entry_state {
    ENTRY_QUEUED,   /* redelivered, and waits for its turn */
    ENTRY_WAITING,  /* for its handler */
    ENTRY_HANDLING, /* its handler has it in hand */
    ENTRY_CURRENT,  /* with the publisher, or about to leave */
    ENTRY_ASIDE,    /* waits for the hub, and others need not wait with it */
    ENTRY_GATHERED, /* of a window, that is over or not: published with what it carries */
    ENTRY_FAILING,  /* waits for its row in the failure transport */
    ENTRY_STATES
};

/* What is published with an entry, or by it: entries that are still pending in Redis, and ours. */
struct carried {
    struct stream_id *ids; /* in their order; of a newest value the last one is the one before it */
    size_t len;
    size_t capacity;
    struct buf
        documents; /* of a batch: of the entry itself and of all that it carries; else empty */
};

/* What its handler has answered. The updates are published one after another. */
struct answer {
    struct arena arena; /* owner of the line's bytes */
    struct handler_line line;
    size_t published; /* of the updates */
    size_t bytes;     /* of memory that it holds, itself included */
};

void answer_free(struct answer *answer); /* NULL is allowed */

struct entry {
    struct stream_id id;
    struct source *source;            /* where it came from, and where it is acknowledged */
    struct arena arena;               /* owner of the bytes below */
    struct bytes value;               /* the field as it was */
    struct envelope envelope;         /* decoded; topic and payload are in it */
    const struct routes_match *match; /* the publisher's; of the topic */
    struct bytes identity; /* X-Mqtt-Id, or its name where another program dispatched it */
    size_t bytes;          /* of memory that it holds, itself included */
    int64_t read_us;       /* monotonic */
    struct carried carried;
    struct answer *answer; /* NULL: none; the route alone says what is published */
    struct bytes death;    /* why a handler that had it ended; empty: none did */
    uint32_t deliveries;
    uint32_t failures;      /* of a route with `latest`: how often it was put off for a window */
    enum entry_state state; /* source_set_state changes it */
    bool redelivered;       /* a worker may have died of it */
    bool shown;             /* published to everybody, as a message document */
    bool counted;           /* its delivery count stands one higher, in case we die of it */
    struct entry *next; /* in its lane, or in the list of those handled one at a time; utlist.h */
    struct entry *prev;
    struct entry *open_next; /* all that its source has open */
    struct entry *open_prev;
};

/* `<stream id>-<CRC-32C of the stream's name, a NUL and the value>`. Two streams, and two servers whose workers
 * share a hub or a table, can have entries of one id: the rest tells them apart. Whoever looks at the
 * entry again comes to the same. */
#define ENTRY_NAME_SIZE (STREAM_ID_TEXT_SIZE + 9)
void entry_name(const struct entry *entry, const char *stream, char name[ENTRY_NAME_SIZE]);
/* True of the identities that consumer and entry_name make: another program may give one id to many messages. */
bool entry_identity_is_ours(struct bytes identity);

/* By the sequence of their spool, else the time of their receipt, else the order of their dispatch. */
bool entry_is_newer(const struct entry *a, const struct entry *b);

/* Behind the update that is published now. */
static inline bool entry_has_more_updates(const struct entry *entry)
{
    return entry->answer != NULL && entry->answer->published + 1 < entry->answer->line.updates_len;
}

/* It carries documents, its own among them. */
static inline bool entry_is_batch(const struct entry *entry)
{
    return entry->carried.documents.len > 0;
}

struct entry *entry_new(struct source *source, struct stream_id id);
/* Fills in value, envelope, identity and bytes from a value that is copied. -ERR_FORMAT: it can't be decoded,
 * err says why; its topic is then "?". */
MUST_CHECK int entry_fill(struct entry *entry, struct bytes value, const char *stream,
                          struct error *err);
/* One more that it carries; its bytes stay as they were. */
void entry_carry(struct entry *entry, struct stream_id id);
/* What the two carry changes hands. */
void entry_swap_ids(struct entry *a, struct entry *b);
/* It keeps no more than id, times and counts. */
void entry_drop_value(struct entry *entry);
void entry_free(struct entry *entry);

/* Entries that were read and are left pending in Redis: ids in their order, to be read again. They are ours,
 * and are touched as open entries are. Zero-initialised is empty. */

struct entry_left {
    struct source *source;
    struct stream_id id;
    bool redelivered;
    bool alone; /* of a batch that failed: by itself; in place of a refused value: at once */
};

struct entry_ids {
    struct entry_left *ring;
    size_t capacity; /* a power of two */
    size_t first;
    size_t len;
    size_t *total; /* of several, with these; or NULL */
};

void entry_ids_free(struct entry_ids *ids); /* empty again */
struct entry_left *entry_ids_at(const struct entry_ids *ids, size_t number);
void entry_ids_push(struct entry_ids *ids, const struct entry *entry);
void entry_ids_push_left(struct entry_ids *ids, struct entry_left left);
/* Becomes the first one. */
void entry_ids_push_front(struct entry_ids *ids, struct entry_left left);
/* The first ones, behind all. */
void entry_ids_move(struct entry_ids *to, struct entry_ids *from, size_t count);
/* The first ones; all if there are fewer. */
void entry_ids_drop(struct entry_ids *ids, size_t count);
/* How many of the first ones, up to max, are of one source, and alike in the rest; their ids. */
size_t entry_ids_page(const struct entry_ids *ids, struct stream_id *page, size_t max);
void entry_ids_forget(struct entry_ids *ids, const struct source *source);

typedef void entry_ids_visit(void *context, const struct entry_left *left);
void entry_ids_each(const struct entry_ids *ids, const struct source *source,
                    entry_ids_visit *visit, void *context);

#endif
