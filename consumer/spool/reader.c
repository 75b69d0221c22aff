/* Main's half: reading in order, and stepping over damage. See spool.h. */
#include "common/base/alloc.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is read in one go. A record that is longer gets a chunk of its own. */
#define CHUNK_SIZE ((size_t)256 * 1024)

struct cursor cursor_at(struct segment *segment)
{
    return (struct cursor){segment, SEGMENT_HEADER_SIZE, segment->header.first_sequence};
}

uint64_t cursor_records(const struct cursor *cursor)
{
    if (cursor->segment == NULL)
        return 0;
    const struct segment_header *header = &cursor->segment->header;
    return header->records_before + cursor->sequence - header->first_sequence;
}

int64_t cursor_bytes(const struct cursor *cursor)
{
    if (cursor->segment == NULL)
        return 0;
    return (int64_t)(cursor->segment->header.bytes_before + cursor->offset - SEGMENT_HEADER_SIZE);
}

bool segment_is_finished(const struct segment *segment)
{
    return segment->next != NULL;
}

uint64_t segment_end_sequence(const struct segment *segment)
{
    return segment->header.first_sequence + segment->next->header.records_before -
           segment->header.records_before;
}

void reader_discover_segments(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));
    uint64_t known = reader->last == NULL ? 0 : reader->last->header.number;
    struct error err;

    while (known < number) {
        struct segment *segment;

        known++;
        int result = segment_open(&segment, spool->dir, known, &err);
        if (result == -ERR_NOT_FOUND && known < number)
            continue; /* numbers of files put aside, or that never got their name */
        if (result < 0)
            spool_die(spool, err.text);
        reader_add(reader, segment);
    }
}

void reader_skip_finished_segments(struct spool *spool, struct cursor *cursor)
{
    if (spool->reader.last == NULL ||
        spool->reader.last->header.number < tail_number(atomic_load(&spool->shared.tail)))
        reader_discover_segments(spool);
    if (cursor->segment == NULL && spool->reader.first != NULL)
        *cursor = cursor_at(spool->reader.first);
    while (cursor->segment != NULL && segment_is_finished(cursor->segment) &&
           cursor->sequence >= segment_end_sequence(cursor->segment))
        *cursor = cursor_at(cursor->segment->next);
}

/* Bytes ------------------------------------------------------------------------------------------- */

static int open_for_reading(struct spool *spool, uint64_t number)
{
    struct spool_reader *reader = &spool->reader;

    if (reader->fd >= 0 && reader->fd_number == number)
        return reader->fd;
    if (reader->fd >= 0)
        close(reader->fd);
    reader->fd = segment_file(spool->dir, number, O_RDONLY);
    reader->fd_number = number;
    /* Somebody deleted it: a hole. Anything else would make a hole of what is there. */
    if (reader->fd < 0 && errno != ENOENT)
        spool_die(spool, "opening a segment");
    return reader->fd;
}

/* The bytes from offset on: at least `want` of them, unless the disk does not have them. */
static struct bytes fetch(struct spool *spool, uint64_t number, uint64_t offset, size_t want,
                          uint64_t limit)
{
    struct chunk *chunk = &spool->reader.chunk;
    struct buf *bytes = &chunk->bytes;

    if (chunk->number != number || offset < chunk->offset ||
        offset + want > chunk->offset + bytes->len) {
        size_t most = want > CHUNK_SIZE ? want : CHUNK_SIZE;
        most = most < limit - offset ? most : (size_t)(limit - offset);
        if (bytes->capacity > 2 * CHUNK_SIZE && most <= CHUNK_SIZE)
            buf_free(bytes); /* of a long record */
        buf_clear(bytes);
        chunk->number = number;
        chunk->offset = offset;
        char *into = buf_reserve(bytes, most);
        int fd = open_for_reading(spool, number);
        ssize_t got = fd >= 0 ? 1 : 0;
        while (got > 0 && bytes->len < most) {
            got = sys_pread(fd, into + bytes->len, most - bytes->len, (off_t)(offset + bytes->len));
            bytes->len += got > 0 ? (size_t)got : 0;
        }
    }
    size_t skip = (size_t)(offset - chunk->offset);
    return (struct bytes){bytes->data + skip, bytes->len - skip};
}

/* Steps ------------------------------------------------------------------------------------------- */

static enum record_verdict read_at(struct spool *spool, const struct cursor *cursor, uint64_t limit,
                                   struct record *record, uint64_t *size)
{
    const struct segment *segment = cursor->segment;
    uint64_t number = segment->header.number;

    if (cursor->offset + RECORD_HEAD_SIZE > limit)
        return RECORD_BAD;
    struct bytes bytes = fetch(spool, number, cursor->offset, RECORD_HEAD_SIZE, limit);
    enum record_verdict verdict = record_read(record, size, bytes, segment->seed);
    if (verdict != RECORD_CUT)
        return verdict;
    if (bytes.len < RECORD_HEAD_SIZE || *size > limit - cursor->offset)
        return RECORD_BAD;
    bytes = fetch(spool, number, cursor->offset, (size_t)*size, limit);
    return record_read(record, size, bytes, segment->seed);
}

/* How far the segment can be read now, and the bound of its sequences. While it is being written there
 * is none: what damage at the very tail has cost shows when the next record comes. */
static uint64_t segment_limit(struct spool *spool, const struct cursor *cursor,
                              uint64_t *end_sequence)
{
    while (!segment_is_finished(cursor->segment)) {
        uint64_t tail = atomic_load(&spool->shared.tail);

        *end_sequence = UINT64_MAX;
        if (tail_number(tail) == cursor->segment->header.number)
            return tail_offset(tail);
        /* The writer has left it since. */
        reader_discover_segments(spool);
    }
    *end_sequence = segment_end_sequence(cursor->segment);
    return cursor->segment->size;
}

/* Moves the cursor to the next good record of the segment, or to its end. */
static void skip_damage(struct spool *spool, struct cursor *cursor, struct hole *hole)
{
    struct segment *segment = cursor->segment;
    struct buf data = {0};
    struct record record;
    struct error err;
    uint64_t end_sequence;
    uint64_t size;

    *hole = (struct hole){.number = segment->header.number, .from = cursor->offset};
    uint64_t limit = segment_limit(spool, cursor, &end_sequence);
    int result = segment_load(&data, spool->dir, segment->header.number, limit, &err);
    if (result == -ERR_SYSTEM && errno != ENOENT)
        spool_die(spool, err.text);
    size_t found = data.len;
    if (result >= 0 && cursor->offset < data.len)
        found = record_find(buf_bytes(&data), (size_t)cursor->offset, segment->seed,
                            cursor->sequence, end_sequence - 1);
    struct bytes rest = {data.data + found, data.len - found};
    uint64_t next = end_sequence == UINT64_MAX ? cursor->sequence : end_sequence;
    if (found < data.len && record_read(&record, &size, rest, segment->seed) == RECORD_GOOD)
        next = record.sequence;
    else
        found = (size_t)limit;
    hole->to = found;
    hole->missing = next - cursor->sequence;
    cursor->offset = found;
    cursor->sequence = next;
    buf_free(&data);
}

enum step reader_step(struct spool *spool, struct cursor *cursor, struct record *record,
                      struct hole *hole)
{
    uint64_t end_sequence;
    uint64_t limit;
    uint64_t size = 0;

    for (;;) {
        reader_skip_finished_segments(spool, cursor);
        if (cursor->segment == NULL)
            return STEP_END;
        limit = segment_limit(spool, cursor, &end_sequence);
        if (!segment_is_finished(cursor->segment) && cursor->offset >= limit)
            return STEP_END;
        if (cursor->sequence < end_sequence)
            break;
    }
    if (read_at(spool, cursor, limit, record, &size) == RECORD_GOOD &&
        record->sequence == cursor->sequence) {
        cursor->offset += size;
        cursor->sequence += record->type == RECORD_MESSAGE;
        return STEP_RECORD;
    }
    skip_damage(spool, cursor, hole);
    return STEP_HOLE;
}

void reader_move(struct spool *spool, const struct cursor *to)
{
    struct spool_reader *reader = &spool->reader;

    reader->read = *to;
    reader->committed = *to;
    reader->given = cursor_records(to);
    reader->generation++;
}

void reader_close(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;

    buf_free(&reader->chunk.bytes);
    if (reader->fd >= 0)
        close(reader->fd);
    while (reader->first != NULL) {
        struct segment *next = reader->first->next;

        free(reader->first);
        reader->first = next;
    }
}

/* What is read -------------------------------------------------------------------------------------- */

/* Whoever frees the segment, now or after a restart, is to keep the file. */
static void mark_damaged(struct spool *spool, struct segment *segment)
{
    struct error err;

    segment->header.damaged = true;
    if (segment_rewrite_header(spool->dir, &segment->header, &err) < 0)
        log_notice(LOG_WITH(log_text("spool", spool->path)),
                   "Spool: a damaged segment can't be marked so, and may be removed: %s", err.text);
}

/* Counted once, however often it is read over. */
static int report_hole(struct spool *spool, const struct hole *hole, struct segment *segment,
                       struct error *err)
{
    struct spool_reader *reader = &spool->reader;

    if (hole->from >= segment->damage_end) {
        reader->damaged += hole->missing;
        mark_damaged(spool, segment);
        segment->damage_end = hole->to > hole->from ? hole->to : hole->from + 1;
    }
    return error_set(err, ERR_FORMAT,
                     "spool %s: segment %" PRIu64 " is damaged from byte %" PRIu64 " to %" PRIu64
                     ": %" PRIu64 " records are lost",
                     spool->path, hole->number, hole->from, hole->to, hole->missing);
}

static struct spool_message message_of(const struct record *record, uint64_t run)
{
    return (struct spool_message){
        .sequence = record->sequence,
        .identity = record->sequence - record->repeats,
        .run = run,
        .received_us = record->received_us,
        .qos = record->qos,
        .retained = record->retained,
        .oversized = record->oversized,
        .packet_id = record->packet_id,
        .topic = record->topic,
        .payload = record->oversized ? BYTES_NONE : record->payload,
    };
}

/* What lies behind the last message given is no message: nobody commits it. */
static void commit_the_rest(struct spool_reader *reader)
{
    if (cursor_records(&reader->committed) >= reader->given)
        reader->committed = reader->read;
}

int spool_next(struct spool *spool, struct spool_message *message, struct error *err)
{
    struct spool_reader *reader = &spool->reader;
    struct record record;
    struct hole hole;

    for (;;) {
        enum step step = reader_step(spool, &reader->read, &record, &hole);

        if (step == STEP_RECORD && record.type == RECORD_MESSAGE)
            break;
        commit_the_rest(reader);
        if (step == STEP_END)
            return 0;
        if (step == STEP_HOLE)
            return report_hole(spool, &hole, reader->read.segment, err);
    }
    reader->given = cursor_records(&reader->read);
    *message = message_of(&record, reader->read.segment->header.run);
    return 1;
}

struct spool_position spool_position(const struct spool *spool)
{
    const struct cursor *read = &spool->reader.read;

    return (struct spool_position){
        .generation = spool->reader.generation,
        .segment = read->segment != NULL ? read->segment->header.number : 0,
        .offset = read->offset,
        .sequence = read->sequence,
    };
}

void spool_commit(struct spool *spool, const struct spool_position *position)
{
    struct spool_reader *reader = &spool->reader;

    reader_skip_finished_segments(spool, &reader->committed);
    struct segment *segment = reader->committed.segment;
    while (segment != NULL && segment->header.number < position->segment)
        segment = segment->next;
    if (segment == NULL || segment->header.number != position->segment ||
        position->generation != reader->generation)
        return;
    struct cursor to = {segment, position->offset, position->sequence};
    if (segment != reader->committed.segment || to.offset > reader->committed.offset)
        reader->committed = to;
    commit_the_rest(reader);
    retention_release(spool);
}
