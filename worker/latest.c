#include "worker/latest.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/wire/json.h"
#include "common/wire/update.h"

#include <stdlib.h>

/* Bytes of last values that wait for an acknowledgement. If more come, Redis is away or answers nothing. */
#define WAITING_MAX ((size_t)4 * 1024 * 1024)

struct latest {
    int64_t limit;
    struct queue_batch added;
    struct queue_batch sent; /* and not acknowledged */
    struct buf list;         /* scratch: a batch's documents as an array, or one document */
    struct buf shortened;
    struct arena arena;
    struct queue *queue;
    struct log_fault fault;
};

struct latest *latest_new(int64_t limit)
{
    if (limit == 0)
        return NULL;
    struct latest *latest = xcalloc(1, sizeof(*latest));

    latest->limit = limit;
    return latest;
}

void latest_free(struct latest *latest)
{
    if (latest == NULL)
        return;
    queue_batch_free(&latest->added);
    queue_batch_free(&latest->sent);
    buf_free(&latest->shortened);
    buf_free(&latest->list);
    arena_free(&latest->arena);
    free(latest);
}

static void add_argument(struct queue_batch *batch, struct bytes text)
{
    buf_clear(&batch->value);
    buf_append(&batch->value, text);
    queue_batch_add(batch);
}

static void add_pair(struct latest *latest, struct bytes topic, struct bytes document)
{
    if (document.len > LATEST_DOCUMENT_MAX ||
        latest->added.resp.len + latest->sent.resp.len > WAITING_MAX)
        return;
    add_argument(&latest->added, topic);
    add_argument(&latest->added, document);
}

/* The members of a message document, as raw JSON. */
struct parts {
    struct bytes id;
    struct bytes topic;
    struct bytes payload;
    struct bytes received_at; /* may be missing */
};

static bool read_parts(struct bytes document, struct parts *parts, struct arena *arena)
{
    struct json_object object;
    struct bytes key, value;
    int more;

    *parts = (struct parts){0};
    if (json_object_begin(&object, document, arena) < 0)
        return false;
    while ((more = json_object_next(&object, &key, &value)) > 0)
        if (bytes_equal_text(key, "id"))
            parts->id = value;
        else if (bytes_equal_text(key, "topic"))
            parts->topic = value;
        else if (bytes_equal_text(key, "payload"))
            parts->payload = value;
        else if (bytes_equal_text(key, "receivedAt"))
            parts->received_at = value;
    return more == 0;
}

static void add_shortened(struct latest *latest, struct bytes topic, const struct parts *parts,
                          size_t payload_len)
{
    buf_clear(&latest->shortened);
    buf_append(&latest->shortened, BYTES("{\"id\":"));
    buf_append(&latest->shortened, parts->id);
    buf_append(&latest->shortened, BYTES(",\"topic\":"));
    buf_append(&latest->shortened, parts->topic);
    buf_append(&latest->shortened, BYTES(",\"bytes\":"));
    buf_append_u64(&latest->shortened, payload_len);
    if (parts->received_at.len > 0) {
        buf_append(&latest->shortened, BYTES(",\"receivedAt\":"));
        buf_append(&latest->shortened, parts->received_at);
    }
    buf_append_char(&latest->shortened, '}');
    add_pair(latest, topic, buf_bytes(&latest->shortened));
}

/* payload_len: length of the payload that the document was made without; 0: the document is whole. */
static void add_document(struct latest *latest, struct bytes document, size_t payload_len)
{
    struct parts parts;
    struct bytes topic, id;

    arena_clear(&latest->arena);
    if (!read_parts(document, &parts, &latest->arena) ||
        json_unquote(&id, parts.id, &latest->arena) < 0 || !entry_identity_is_ours(id) ||
        json_unquote(&topic, parts.topic, &latest->arena) < 0)
        return;
    if (payload_len == 0 && document.len <= LATEST_DOCUMENT_MAX)
        add_pair(latest, topic, document);
    else
        add_shortened(latest, topic, &parts, payload_len > 0 ? payload_len : parts.payload.len);
}

static void add_batch(struct latest *latest, struct bytes documents)
{
    struct json_array array;
    struct bytes document;

    buf_clear(&latest->list);
    buf_append_char(&latest->list, '[');
    buf_append(&latest->list, documents);
    buf_append_char(&latest->list, ']');
    if (json_array_begin(&array, buf_bytes(&latest->list)) < 0)
        return;
    while (json_array_next(&array, &document) > 0)
        add_document(latest, document, 0);
}

static void add_one(struct latest *latest, const struct entry *entry)
{
    const struct envelope *envelope = &entry->envelope;
    bool is_long = envelope->payload.len > LATEST_DOCUMENT_MAX;
    struct buf *document = &latest->list;

    if (!entry_identity_is_ours(entry->identity))
        return;
    buf_clear(document);
    update_document(document, entry->identity, envelope->topic,
                    is_long ? BYTES("null") : envelope->payload, envelope->received_us);
    if (is_long || document->len > LATEST_DOCUMENT_MAX)
        add_document(latest, buf_bytes(document), envelope->payload.len);
    else
        add_pair(latest, envelope->topic, buf_bytes(document));
}

void latest_add(struct latest *latest, const struct entry *entry)
{
    if (latest == NULL || !entry->shown)
        return;
    if (entry_is_batch(entry))
        add_batch(latest, buf_bytes(&entry->carried.documents));
    else
        add_one(latest, entry);
}

static void kept(void *context, int result, const struct error *err)
{
    struct latest *latest = context;

    if (result == 0)
        log_fault_over(&latest->fault, LOG_PLAIN, "%s: last values are kept again",
                       queue_address(latest->queue));
    else if (queue_is_connected(latest->queue))
        log_fault(&latest->fault, LOG_LEVEL_WARNING, LOG_PLAIN,
                  "Redis refuses last values, which a page shows when it opens: %s. Messages go on",
                  err->text);
}

void latest_send(struct latest *latest, struct queue *queue)
{
    if (latest == NULL || latest->added.count + latest->sent.count == 0)
        return;
    buf_append(&latest->sent.resp, buf_bytes(&latest->added.resp));
    latest->sent.count += latest->added.count;
    queue_batch_clear(&latest->added);
    latest->queue = queue;
    queue_keep_latest(queue, latest->limit, &latest->sent, kept, latest);
}

void latest_acknowledged(struct latest *latest)
{
    if (latest != NULL)
        queue_batch_clear(&latest->sent);
}
