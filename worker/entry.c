#include "worker/entry.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPOOL_ID_LENGTH 32

/* A value and all that is decoded from it take at most so many times the value's length. Only values with base64 within
 * escapes take more. */
#define DECODED_MAX 3

void entry_name(const struct entry *entry, const char *stream, char name[ENTRY_NAME_SIZE])
{
    char id[STREAM_ID_TEXT_SIZE];
    uint32_t crc = bytes_crc32c(0, stream, strlen(stream) + 1);

    crc = bytes_crc32c(crc, entry->value.data, entry->value.len);
    stream_id_format(entry->id, id);
    snprintf(name, ENTRY_NAME_SIZE, "%s-%08" PRIx32, id, crc);
}

static size_t span(struct bytes text, size_t from, const char *of)
{
    size_t at = from;

    while (at < text.len && text.data[at] != '\0' && strchr(of, text.data[at]) != NULL)
        at++;
    return at - from;
}

bool entry_identity_is_ours(struct bytes identity)
{
    static const char digits[] = "0123456789", hex[] = "0123456789abcdef";
    size_t first = span(identity, 0, hex);
    size_t second = span(identity, first + 1, digits);
    size_t third = first + 1 + second;

    if (first >= identity.len || identity.data[first] != '-' || second == 0)
        return false;
    if (first == SPOOL_ID_LENGTH && third == identity.len) /* <spool id>-<sequence> */
        return true;
    return span(identity, 0, digits) == first && third < identity.len &&
           identity.data[third] == '-' && span(identity, third + 1, hex) == 8 &&
           third + 9 == identity.len; /* entry_name */
}

struct entry *entry_new(struct source *source, struct stream_id id)
{
    struct entry *entry = xcalloc(1, sizeof(*entry));

    entry->source = source;
    entry->id = id;
    entry->bytes = sizeof(*entry);
    entry->read_us = clock_monotonic_us();
    return entry;
}

int entry_fill(struct entry *entry, struct bytes value, const char *stream, struct error *err)
{
    size_t size = DECODED_MAX * value.len + ENTRY_NAME_SIZE;
    char name[ENTRY_NAME_SIZE];

    arena_reserve(&entry->arena, size);
    entry->value = arena_copy(&entry->arena, value);
    int result = envelope_decode(&entry->envelope, entry->value, &entry->arena, err);
    if (result < 0)
        entry->envelope = (struct envelope){.topic = BYTES("?")};
    entry->identity = entry->envelope.mqtt_id;
    if (entry->identity.len == 0) {
        entry_name(entry, stream, name);
        entry->identity = arena_copy(&entry->arena, bytes_of(name));
    }
    entry->bytes += entry->arena.held > size ? entry->arena.held : size;
    return result;
}

void entry_carry(struct entry *entry, struct stream_id id)
{
    struct carried *carried = &entry->carried;

    carried->ids = xgrow(carried->ids, carried->len, sizeof(*carried->ids));
    carried->ids[carried->len++] = id;
}

void entry_swap_ids(struct entry *a, struct entry *b)
{
    struct carried swapped = a->carried;

    a->carried.ids = b->carried.ids;
    a->carried.len = b->carried.len;
    b->carried.ids = swapped.ids;
    b->carried.len = swapped.len;
}

void entry_answer_free(struct answer *answer)
{
    if (answer == NULL)
        return;
    handler_line_free(&answer->line);
    arena_free(&answer->arena);
    free(answer);
}

static void drop_answer(struct entry *entry)
{
    entry_answer_free(entry->answer);
    entry->answer = NULL;
}

static void drop_carried(struct entry *entry)
{
    free(entry->carried.ids);
    buf_free(&entry->carried.documents);
    entry->carried = (struct carried){0};
}

void entry_drop_value(struct entry *entry)
{
    arena_free(&entry->arena);
    buf_free(&entry->carried.documents);
    drop_answer(entry);
    entry->value = BYTES_NONE;
    entry->death = BYTES_NONE;
    entry->identity = BYTES_NONE;
    entry->envelope = (struct envelope){0};
    entry->bytes = sizeof(*entry);
}

void entry_free(struct entry *entry)
{
    drop_carried(entry);
    drop_answer(entry);
    arena_free(&entry->arena);
    free(entry);
}

/* The sequence of an identity `<spool id>-<sequence>`. */
static bool read_sequence(struct bytes identity, uint64_t *sequence)
{
    return identity.len > SPOOL_ID_LENGTH + 1 && identity.data[SPOOL_ID_LENGTH] == '-' &&
           bytes_to_u64(bytes_slice(identity, SPOOL_ID_LENGTH + 1, identity.len), sequence);
}

/* The entry's id at its first dispatch: a retried entry of another program keeps that entry's name (entry_name). */
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

bool entry_is_newer(const struct entry *a, const struct entry *b)
{
    uint64_t a_sequence, b_sequence;
    bool from_one_spool = read_sequence(a->identity, &a_sequence) &&
                          read_sequence(b->identity, &b_sequence) &&
                          bytes_equal(bytes_slice(a->identity, 0, SPOOL_ID_LENGTH),
                                      bytes_slice(b->identity, 0, SPOOL_ID_LENGTH));
    int64_t a_us = a->envelope.received_us, b_us = b->envelope.received_us;

    if (from_one_spool)
        return a_sequence > b_sequence;
    if (a_us != b_us && a_us > 0 && b_us > 0)
        return a_us > b_us;
    return stream_id_is_behind(first_id(a), first_id(b));
}

static void set_len(struct entry_ids *ids, size_t len)
{
    if (ids->total != NULL)
        *ids->total += len - ids->len;
    ids->len = len;
}

void entry_ids_free(struct entry_ids *ids)
{
    set_len(ids, 0);
    free(ids->ring);
    *ids = (struct entry_ids){.total = ids->total};
}

struct entry_left *entry_ids_at(const struct entry_ids *ids, size_t number)
{
    return &ids->ring[(ids->first + number) & (ids->capacity - 1)];
}

static void make_room(struct entry_ids *ids)
{
    size_t capacity = ids->capacity == 0 ? 16 : 2 * ids->capacity;

    if (ids->len < ids->capacity)
        return;
    struct entry_left *ring = xcalloc(capacity, sizeof(*ring));
    for (size_t i = 0; i < ids->len; i++)
        ring[i] = *entry_ids_at(ids, i);
    free(ids->ring);
    ids->ring = ring;
    ids->capacity = capacity;
    ids->first = 0;
}

void entry_ids_push_left(struct entry_ids *ids, struct entry_left left)
{
    make_room(ids);
    set_len(ids, ids->len + 1);
    *entry_ids_at(ids, ids->len - 1) = left;
}

void entry_ids_push(struct entry_ids *ids, const struct entry *entry)
{
    entry_ids_push_left(ids,
                        (struct entry_left){entry->source, entry->id, entry->redelivered, false});
}

void entry_ids_push_front(struct entry_ids *ids, struct entry_left left)
{
    make_room(ids);
    ids->first = (ids->first - 1) & (ids->capacity - 1);
    set_len(ids, ids->len + 1);
    *entry_ids_at(ids, 0) = left;
}

void entry_ids_move(struct entry_ids *to, struct entry_ids *from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        entry_ids_push_left(to, *entry_ids_at(from, i));
    entry_ids_drop(from, count);
}

void entry_ids_drop(struct entry_ids *ids, size_t count)
{
    if (count >= ids->len) {
        entry_ids_free(ids);
        return;
    }
    ids->first = (ids->first + count) & (ids->capacity - 1);
    set_len(ids, ids->len - count);
}

size_t entry_ids_page(const struct entry_ids *ids, struct stream_id *page, size_t max)
{
    size_t len = 0;

    for (; len < ids->len && len < max; len++) {
        const struct entry_left *left = entry_ids_at(ids, len);

        if (left->source != entry_ids_at(ids, 0)->source ||
            left->redelivered != entry_ids_at(ids, 0)->redelivered ||
            left->alone != entry_ids_at(ids, 0)->alone)
            break;
        page[len] = left->id;
    }
    return len;
}

void entry_ids_forget(struct entry_ids *ids, const struct source *source)
{
    size_t kept = 0;

    for (size_t i = 0; i < ids->len; i++)
        if (entry_ids_at(ids, i)->source != source)
            *entry_ids_at(ids, kept++) = *entry_ids_at(ids, i);
    set_len(ids, kept);
    if (kept == 0)
        entry_ids_free(ids);
}

void entry_ids_each(const struct entry_ids *ids, const struct source *source,
                    entry_ids_visit *visit, void *context)
{
    for (size_t i = 0; i < ids->len; i++)
        if (entry_ids_at(ids, i)->source == source)
            visit(context, entry_ids_at(ids, i));
}
