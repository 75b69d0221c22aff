/* A stream entry between being read and being settled, which owns its bytes. struct entry_ids is what is kept of an
 * entry that is left in Redis. */
#ifndef WORKER_ENTRY_H
#define WORKER_ENTRY_H

#include "common/base/arena.h"
#include "common/client/queue.h"
#include "common/wire/envelope.h"
#include "common/wire/handler_line.h"

struct source;
struct routes_match;

enum entry_state {
    ENTRY_QUEUED,   /* redelivered: waits for its turn */
    ENTRY_WAITING,  /* waits for its handler */
    ENTRY_HANDLING, /* its handler has it in hand */
    ENTRY_CURRENT,  /* with the publisher, or about to be settled */
    ENTRY_ASIDE,    /* waits for the hub; other entries are read and sent meanwhile */
    ENTRY_GATHERED, /* of a route's window, over or not: published with the entries that it carries */
    ENTRY_FAILING, /* waits for its row in the failure transport */
    ENTRY_STATES
};

/* The entries that are published together with an entry: a batch, or older values that a newest value replaces. They
 * are still pending in Redis, with this worker. */
struct carried {
    struct stream_id *ids; /* in order; for a newest value the last id is the value before it */
    size_t len;
    struct buf
        documents; /* a batch: the documents of the entry and of all carried ones; else empty */
};

/* A handler's answer. The updates of the answer are published one after another. */
struct answer {
    struct arena arena; /* owner of the line's bytes */
    struct handler_line line;
    size_t published; /* updates of the line so far */
    size_t bytes;     /* memory held by the answer, this struct included */
};

void entry_answer_free(struct answer *answer); /* NULL is allowed */

struct entry {
    struct stream_id id;
    struct source *source;            /* the transport it came from, and where it is acknowledged */
    struct arena arena;               /* owner of the bytes below */
    struct bytes value;               /* the field `message` as it was */
    struct envelope envelope;         /* the decoded value, with topic and payload */
    const struct routes_match *match; /* the topic's route; the publisher owns it */
    struct bytes identity; /* X-Mqtt-Id, or entry_name where another program dispatched it */
    size_t bytes;          /* memory held by the entry, this struct included */
    int64_t read_us;       /* monotonic */
    struct carried carried;
    struct answer *answer; /* NULL: no handler; the route alone says what is published */
    struct bytes death;    /* why a handler with this entry in hand ended; empty: none did */
    uint32_t deliveries;
    uint32_t failures; /* route with `latest`: how often it failed and waited for a new window */
    enum entry_state state; /* changed by source_set_state only */
    bool redelivered;   /* a worker may have died of it, or ends while a handler has it in hand */
    bool shown;         /* published to everybody, as a message document */
    bool counted;       /* its delivery count in Redis is one higher, in case it kills us */
    struct entry *next; /* in its lane, or among the redelivered entries; utlist.h */
    struct entry *prev;
    struct entry *open_next; /* in the list of its source's open entries */
    struct entry *open_prev;
};

/* `<stream id>-<CRC-32C of the stream's name, a NUL and the value>`. Two streams, or two servers whose workers share a
 * hub or a table, can have entries with equal ids: the checksum tells them apart. Another worker computes the same name
 * for the same entry. */
#define ENTRY_NAME_SIZE (STREAM_ID_TEXT_SIZE + 9)
void entry_name(const struct entry *entry, const char *stream, char name[ENTRY_NAME_SIZE]);
/* True if the consumer or entry_name made this identity. Another program may give one id to many messages. */
bool entry_identity_is_ours(struct bytes identity);

/* Compares the sequence in the spool if both come from one spool, else the time of receipt, else the order of
 * dispatch. */
bool entry_is_newer(const struct entry *a, const struct entry *b);

/* The handler's answer has updates behind the one that is published now. */
static inline bool entry_has_more_updates(const struct entry *entry)
{
    return entry->answer != NULL && entry->answer->published + 1 < entry->answer->line.updates_len;
}

/* The entry has the documents of a batch, its own included. */
static inline bool entry_is_batch(const struct entry *entry)
{
    return entry->carried.documents.len > 0;
}

struct entry *entry_new(struct source *source, struct stream_id id);
/* Copies the value and fills in envelope, identity and bytes. -ERR_FORMAT: the value can't be decoded, err says why,
 * and the topic is "?". */
MUST_CHECK int entry_fill(struct entry *entry, struct bytes value, const char *stream,
                          struct error *err);
/* Adds one more id to those that the entry carries; entry->bytes does not change. */
void entry_carry(struct entry *entry, struct stream_id id);
/* Exchanges the ids that the two carry. */
void entry_swap_ids(struct entry *a, struct entry *b);
/* Frees everything but the id, times and counts. */
void entry_drop_value(struct entry *entry);
void entry_free(struct entry *entry);

/* Ids of entries that were read and left pending in Redis, in order, to be read again. They are this worker's, and are
 * touched as open entries are. Zero-initialised is empty. */

struct entry_left {
    struct source *source;
    struct stream_id id;
    bool redelivered;
    bool
        alone; /* to be published alone: from a failed batch, or in place of a refused newest value */
};

struct entry_ids {
    struct entry_left *ring;
    size_t capacity; /* a power of two */
    size_t first;
    size_t len;
    size_t *total; /* a counter that several lists share; or NULL */
};

void entry_ids_free(struct entry_ids *ids); /* empty again */
struct entry_left *entry_ids_at(const struct entry_ids *ids, size_t number);
void entry_ids_push(struct entry_ids *ids, const struct entry *entry);
void entry_ids_push_left(struct entry_ids *ids, struct entry_left left);
void entry_ids_push_front(struct entry_ids *ids, struct entry_left left);
/* Moves the first `count` ids to the end of `to`. */
void entry_ids_move(struct entry_ids *to, struct entry_ids *from, size_t count);
/* Removes the first `count` ids; all if there are fewer. */
void entry_ids_drop(struct entry_ids *ids, size_t count);
/* Writes the first ids, up to max, that agree in source, redelivered and alone. Returns how many. */
size_t entry_ids_page(const struct entry_ids *ids, struct stream_id *page, size_t max);
void entry_ids_forget(struct entry_ids *ids, const struct source *source);

typedef void entry_ids_visit(void *context, const struct entry_left *left);
void entry_ids_each(const struct entry_ids *ids, const struct source *source,
                    entry_ids_visit *visit, void *context);

#endif
