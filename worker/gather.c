#include "worker/gather.h"

#include "worker/source.h"

#define SPOOL_ID_LENGTH 32

/* Of an identity `<spool id>-<sequence>`. */
static bool read_sequence(struct bytes identity, uint64_t *sequence)
{
    return identity.len > SPOOL_ID_LENGTH + 1 && identity.data[SPOOL_ID_LENGTH] == '-' &&
           bytes_to_u64(bytes_slice(identity, SPOOL_ID_LENGTH + 1, identity.len), sequence);
}

/* Of the first dispatch: a retried entry of another program keeps the name of that (entry_name). */
static struct stream_id first_id(const struct entry *entry)
{
    struct bytes ms, rest, sequence, hash;
    struct stream_id id;

    bytes_split(entry->identity, '-', &ms, &rest);
    bytes_split(rest, '-', &sequence, &hash);
    if (hash.len > 0 &&
        stream_id_parse(bytes_slice(entry->identity, 0, ms.len + 1 + sequence.len), &id))
        return id;
    return entry->id;
}

bool gather_is_newer(const struct entry *a, const struct entry *b)
{
    uint64_t a_sequence, b_sequence;
    bool from_one_spool = read_sequence(a->identity, &a_sequence) &&
                          read_sequence(b->identity, &b_sequence) &&
                          bytes_equal(bytes_slice(a->identity, 0, SPOOL_ID_LENGTH),
                                      bytes_slice(b->identity, 0, SPOOL_ID_LENGTH));
    int64_t a_us = a->envelope.received_us, b_us = b->envelope.received_us;
    struct stream_id a_id = first_id(a), b_id = first_id(b);

    if (from_one_spool)
        return a_sequence > b_sequence;
    if (a_us != b_us && a_us > 0 && b_us > 0)
        return a_us > b_us;
    return a_id.ms != b_id.ms ? a_id.ms > b_id.ms : a_id.sequence > b_id.sequence;
}

bool gather_fits(const struct lane *lane, const struct entry *entry)
{
    return lane->gathered == NULL || lane->gathered->source == entry->source;
}

static void open_window(struct lane *lane, struct entry *entry, int64_t now_ms)
{
    lane->gathered = entry;
    lane->window_ms = now_ms + lane->route->window_ms;
    if (lane->aside)
        source_set_aside(entry);
    else
        source_set_gathered(entry);
}

/* The last one that an entry carries is published if the entry is refused: no value that comes late may become it. */
static void add_latest(struct lane *lane, struct entry *entry)
{
    struct entry *other = lane->gathered;

    if (!gather_is_newer(entry, other)) {
        source_conflate(other, entry);
        return;
    }
    source_set_gathered(entry);
    source_conflate(entry, other);
    lane->gathered = entry;
}

static bool is_full(const struct lane *lane)
{
    const struct carried *carried = &lane->gathered->carried;

    return carried->len + 1 >= (size_t)lane->route->batch_max ||
           carried->documents.len >= (size_t)lane->route->batch_bytes;
}

bool gather_add(struct lane *lane, struct entry *entry, int64_t now_ms)
{
    bool first = lane->gathered == NULL;

    if (first)
        open_window(lane, entry, now_ms);
    if (lane_publish(lane) == PUBLISH_LATEST) {
        if (!first)
            add_latest(lane, entry);
        return false;
    }
    source_add_bytes(lane->gathered,
                     publication_append_document(entry, &lane->gathered->carried.documents));
    if (!first)
        source_carry(lane->gathered, entry);
    return is_full(lane);
}

struct entry *gather_take(struct lane *lane)
{
    struct entry *entry = lane->gathered;

    lane->gathered = NULL;
    return entry;
}

void gather_refresh(struct lane *lane)
{
    struct entry *head = lane->head;

    if (lane_publish(lane) != PUBLISH_LATEST || lane->gathered == NULL ||
        !gather_fits(lane, head) || head->counted || head->source->counting == head)
        return;
    DL_DELETE(lane->head, head);
    add_latest(lane, head);
    head = gather_take(lane);
    DL_PREPEND(lane->head, head);
}
