/* Main's half of the spool: reads in order, steps over damage, and moves to Redis's mark. See
 * spool.h. */
#include "common/base/file.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Number of bytes read at once. A longer record gets a chunk of its own. */
#define CHUNK_SIZE ((size_t)256 * 1024)

/* A branch (branch_off) begins at least BRANCH_LEAST above the highest known sequence, and at
 * random up to BRANCH_MOST higher. So two copies of a spool never use one sequence twice. */
#define BRANCH_LEAST (UINT64_C(1) << 40)
#define BRANCH_MOST  (UINT64_C(1) << 47)
/* The next sequence is raised at most so far above a mark of an unknown run. The limit is below
 * 2^32, so that a record can still name the earlier message that it repeats. */
#define FOREIGN_STEP_MOST (UINT64_C(1) << 31)

enum step { STEP_END, STEP_RECORD, STEP_HOLE };
struct hole {
    uint64_t number; /* number of the segment */
    uint64_t from;   /* offsets in the file */
    uint64_t to;
    uint64_t missing;
};

struct cursor reader_cursor_at(struct segment *segment)
{
    return (struct cursor){segment, SEGMENT_HEADER_SIZE, segment->header.first_sequence};
}

uint64_t reader_cursor_records(const struct cursor *cursor)
{
    if (cursor->segment == NULL)
        return 0;
    const struct segment_header *header = &cursor->segment->header;
    return header->records_before + cursor->sequence - header->first_sequence;
}

int64_t reader_cursor_bytes(const struct cursor *cursor)
{
    if (cursor->segment == NULL)
        return 0;
    return (int64_t)(cursor->segment->header.bytes_before + cursor->offset - SEGMENT_HEADER_SIZE);
}

bool reader_segment_is_finished(const struct segment *segment)
{
    return segment->next != NULL;
}

/* Returns one above the segment's last sequence. A segment that is still being written has no
 * bound. */
static uint64_t segment_end_sequence(const struct segment *segment)
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
        *cursor = reader_cursor_at(spool->reader.first);
    while (cursor->segment != NULL && reader_segment_is_finished(cursor->segment) &&
           cursor->sequence >= segment_end_sequence(cursor->segment))
        *cursor = reader_cursor_at(cursor->segment->next);
}

static int open_for_reading(struct spool *spool, uint64_t number)
{
    struct spool_reader *reader = &spool->reader;

    if (reader->fd >= 0 && reader->fd_number == number)
        return reader->fd;
    file_close(&reader->fd);
    reader->fd = segment_file(spool->dir, number, O_RDONLY);
    reader->fd_number = number;
    /* A deleted segment counts as damage. After any other error the segment may be intact, and must not be skipped. */
    if (reader->fd < 0 && errno != ENOENT)
        spool_die(spool, "opening a segment");
    return reader->fd;
}

/* Returns the bytes from offset on: at least `want`, unless the disk has fewer. */
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
            buf_free(bytes); /* the chunk was large, for a long record */
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

/* Returns how far the segment can be read now, and the bound of its sequences. A segment that is
 * being written has no bound: how many records damage at the tail has cost shows when the next
 * record comes. */
static uint64_t segment_limit(struct spool *spool, const struct cursor *cursor,
                              uint64_t *end_sequence)
{
    while (!reader_segment_is_finished(cursor->segment)) {
        uint64_t tail = atomic_load(&spool->shared.tail);

        *end_sequence = UINT64_MAX;
        if (tail_number(tail) == cursor->segment->header.number)
            return tail_offset(tail);
        /* The writer has finished this segment meanwhile. */
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

/* Moves the cursor over the next record, or over the next damage. */
static enum step step_on(struct spool *spool, struct cursor *cursor, struct record *record,
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
        if (!reader_segment_is_finished(cursor->segment) && cursor->offset >= limit)
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
    reader->given = reader_cursor_records(to);
    reader->generation++;
}

void reader_close(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;

    buf_free(&reader->chunk.bytes);
    file_close(&reader->fd);
    while (reader->first != NULL) {
        struct segment *next = reader->first->next;

        free(reader->first);
        reader->first = next;
    }
}

/* Marks the segment in memory and in its file, so that it is kept as NUMBER.damaged, also after a restart. */
static void mark_damaged(struct spool *spool, struct segment *segment)
{
    struct error err;

    segment->header.damaged = true;
    if (segment_rewrite_header(spool->dir, &segment->header, &err) < 0)
        log_notice(LOG_WITH(log_text("spool", spool->path)),
                   "Spool: a damaged segment can't be marked as such: %s. It may be removed after "
                   "a restart",
                   err.text);
}

/* Reports damage, and counts it once, however often it is read. */
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

/* Commits the records behind the last given message that are no messages: no position will
 * commit them. */
static void commit_other_records(struct spool_reader *reader)
{
    if (reader_cursor_records(&reader->committed) >= reader->given)
        reader->committed = reader->read;
}

int spool_next(struct spool *spool, struct record *message, struct error *err)
{
    struct spool_reader *reader = &spool->reader;
    struct hole hole;

    for (;;) {
        enum step step = step_on(spool, &reader->read, message, &hole);

        if (step == STEP_RECORD && message->type == RECORD_MESSAGE)
            break;
        commit_other_records(reader);
        if (step == STEP_END)
            return 0;
        if (step == STEP_HOLE)
            return report_hole(spool, &hole, reader->read.segment, err);
    }
    reader->given = reader_cursor_records(&reader->read);
    message->run = reader->read.segment->header.run;
    if (message->oversized)
        message->payload = BYTES_NONE;
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
    commit_other_records(reader);
    retention_release(spool);
}

void spool_mark_text(uint64_t run, uint64_t sequence, char text[40])
{
    snprintf(text, 40, "%016" PRIx64 ":%" PRIu64, run, sequence);
}

/* Returns one above the last sequence that is written in the segment. */
static uint64_t end_sequence(const struct spool *spool, const struct segment *segment)
{
    uint64_t records;

    if (reader_segment_is_finished(segment))
        return segment_end_sequence(segment);
    records = atomic_load(&spool->shared.records);
    return segment->header.first_sequence + records - segment->header.records_before;
}

static struct segment *find_segment(const struct spool *spool, const struct mark *mark)
{
    struct segment *s = spool->reader.first;

    while (s != NULL && (s->header.run != mark->run || mark->sequence < s->header.first_sequence ||
                         mark->sequence >= end_sequence(spool, s)))
        s = s->next;
    return s;
}

/* Computes how many records, since the spool exists, the mark covers. Returns false if no kept
 * segment has the mark's record. */
static bool records_at(const struct spool *spool, const struct mark *mark, uint64_t *records)
{
    const struct segment *segment = find_segment(spool, mark);

    if (segment == NULL)
        return false;
    *records = segment->header.records_before + mark->sequence - segment->header.first_sequence + 1;
    return true;
}

/* Returns the position behind so many records, or the oldest kept one. If the mark's own record
 * is damaged, the position is before the damage, never behind a later record. */
static struct cursor cursor_behind(struct spool *spool, uint64_t records)
{
    struct segment *segment = spool->reader.first;

    while (segment->next != NULL && segment->next->header.records_before < records)
        segment = segment->next;
    struct cursor cursor = reader_cursor_at(segment);
    while (reader_cursor_records(&cursor) < records) {
        struct cursor before = cursor;
        struct record record;
        struct hole hole;
        enum step step = step_on(spool, &cursor, &record, &hole);

        if (step == STEP_END || cursor.segment != segment ||
            reader_cursor_records(&cursor) > records)
            return before;
    }
    return cursor;
}

bool reader_locate(struct spool *spool, const struct mark *mark, struct cursor *after)
{
    uint64_t records;
    bool found = records_at(spool, mark, &records);

    if (found)
        *after = cursor_behind(spool, records);
    return found;
}

static struct mark_result move(struct spool *spool, enum mark_kind kind, const struct cursor *to,
                               uint64_t missing)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t committed = reader_cursor_records(&reader->committed);

    reader_move(spool, to);
    reader_skip_finished_segments(spool, &reader->read);
    reader_skip_finished_segments(spool, &reader->committed);
    uint64_t now = reader_cursor_records(&reader->committed);
    retention_release(spool);
    return (struct mark_result){kind, reader->read.sequence, missing,
                                committed > now ? committed - now : 0};
}

/* Moves the spool behind the records that Redis has. */
static struct mark_result move_behind(struct spool *spool, uint64_t records, uint64_t missing)
{
    struct cursor to = spool->reader.committed;
    uint64_t committed = reader_cursor_records(&to);
    enum mark_kind kind = MARK_IN_STEP;

    if (records != committed)
        to = cursor_behind(spool, records);
    if (missing > 0)
        kind = MARK_GAP;
    else if (records > committed)
        kind = MARK_AHEAD;
    else if (reader_cursor_records(&to) != committed)
        kind = MARK_BEHIND;
    return move(spool, kind, &to, missing);
}

static struct mark_result no_mark(struct spool *spool)
{
    const struct segment_header *first = &spool->reader.first->header;
    uint64_t origin = spool->reader.origin;
    uint64_t kept_from = first->records_before;

    /* The spool has branched off since then: nothing is missing under its new mark. */
    if (first->first_sequence < atomic_load(&spool->shared.branch) && origin < kept_from)
        origin = kept_from;

    return move_behind(spool, origin, kept_from > origin ? kept_from - origin : 0);
}

void reader_write_mark_id(struct spool *spool)
{
    uint64_t branch = atomic_load(&spool->shared.branch);
    int len = snprintf(spool->reader.mark_id, sizeof(spool->reader.mark_id), "%s", spool->id_text);

    if (branch > 0)
        snprintf(spool->reader.mark_id + len, sizeof(spool->reader.mark_id) - (size_t)len,
                 "-%" PRIx64, branch);
}

/* Raises the next sequence, and tells the next start, which may come before the next append. */
static void skip_to(struct spool *spool, uint64_t sequence)
{
    writer_skip_to(spool, sequence);
    retention_remember(spool, tail_number(atomic_load(&spool->shared.tail)));
}

/* Branches off: a process with a copy of this spool has set the mark meanwhile. With a shared
 * mark, each process would send everything again whenever the other sets the mark. */
static void branch_off(struct spool *spool, uint64_t sequence)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t above = atomic_load(&spool->shared.last_sequence);

    above = sequence > above ? sequence : above;
    above += BRANCH_LEAST + sys_random_u64() % BRANCH_MOST;
    atomic_store(&spool->shared.branch, above);
    skip_to(spool, above);
    reader_write_mark_id(spool);
    reader->mark_is_foreign = false;
    log_warning(
        LOG_WITH(log_text("spool", spool->path), log_text("mark", reader->mark_id)),
        "Another process writes the mark of this spool: there is a copy of its directory at "
        "work (a cloned machine, a backup restored beside the original). This one has its "
        "own mark from now on; what both have goes to Redis twice, with the same X-Mqtt-Id. "
        "See docs/SPOOL.md, \"Copies\"");
}

static struct mark_result unknown(struct spool *spool, const struct mark *mark)
{
    struct spool_reader *reader = &spool->reader;
    struct cursor start = reader_cursor_at(reader->first);
    bool same = reader->mark_is_foreign && reader->foreign.run == mark->run &&
                reader->foreign.sequence == mark->sequence;

    if (same) /* the mark is unchanged since the last reading */
        return move(spool, MARK_UNKNOWN_RUN, &start, 0);
    if (reader->mark_is_foreign) {
        branch_off(spool, mark->sequence);
        return move(spool, MARK_COPIED, &start, 0);
    }
    reader->mark_is_foreign = true;
    reader->foreign = *mark;
    /* The distance is random, so that two copies don't give one identity to two messages until
     * each has its own mark. */
    uint64_t last = atomic_load(&spool->shared.last_sequence);
    skip_to(spool, (mark->sequence > last ? mark->sequence : last) + 1 +
                       sys_random_u64() % FOREIGN_STEP_MOST);
    return move(spool, MARK_UNKNOWN_RUN, &start, 0);
}

static struct mark_result locate(struct spool *spool, const struct mark *mark)
{
    const struct segment_header *first = &spool->reader.first->header;
    uint64_t records;

    if (records_at(spool, mark, &records))
        return move_behind(spool, records, 0);
    if (mark->sequence > first->previous_sequence)
        return unknown(spool, mark);
    /* The difference of the sequences can be too high, since some numbers are skipped. The count
     * of records can't be. */
    uint64_t missing = first->previous_sequence - mark->sequence;
    return move_behind(spool, 0, missing < first->records_before ? missing : first->records_before);
}

struct mark_result spool_apply_mark(struct spool *spool, struct bytes text)
{
    struct spool_reader *reader = &spool->reader;
    struct mark mark;

    reader->mark_read = true;
    struct cursor committed = reader->committed;
    reader_move(spool, &committed); /* invalidates earlier positions */
    reader_skip_finished_segments(spool, &reader->committed);
    if (reader->committed.segment == NULL)
        return (struct mark_result){MARK_IN_STEP, 1, 0, 0};
    if (text.len == 0)
        return no_mark(spool);
    return mark_parse(text, &mark) ? locate(spool, &mark) : unknown(spool, &mark);
}

bool spool_knows_mark(const struct spool *spool, struct bytes text)
{
    const struct segment *first = spool->reader.first;
    struct mark mark;

    if (first == NULL || !mark_parse(text, &mark))
        return false;
    return find_segment(spool, &mark) != NULL ||
           (mark.sequence <= first->header.previous_sequence &&
            (mark.run == first->header.run || mark.sequence == first->header.previous_sequence));
}

void spool_redirect(struct spool *spool)
{
    spool->reader.origin = reader_cursor_records(&spool->reader.committed);
}
