/* What a mark means. See spool.h; the rules with their reasons are in docs/SPOOL.md, "Mark". */
#include "consumer/spool/spool_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A mark above it is nobody's: sequences would take millennia to get there. */
#define SEQUENCE_MAX (UINT64_C(1) << 62)

struct mark {
    uint64_t run;
    uint64_t sequence;
};

/* The kept segments of the destination that the mark was read from. What went to another one is none of
 * its business: the records of `first` before `since` are not the destination's. */
struct range {
    struct segment *first;
    struct segment *last;
    uint64_t since;
};

void spool_mark_text(uint64_t run, uint64_t sequence, char text[40])
{
    snprintf(text, 40, "%016" PRIx64 ":%" PRIu64, run, sequence);
}

static bool parse_mark(struct bytes text, struct mark *mark)
{
    struct bytes run, sequence;

    if (!bytes_split(text, ':', &run, &sequence) || run.len != 16)
        return false;
    mark->run = 0;
    for (size_t i = 0; i < run.len; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = memchr(digits, run.data[i], 16);
        if (digit == NULL)
            return false;
        mark->run = mark->run << 4 | (uint64_t)(digit - digits);
    }
    return bytes_to_u64(sequence, &mark->sequence) && mark->sequence < SEQUENCE_MAX;
}

static struct range range_around(const struct spool *spool, const struct cursor *here)
{
    struct owner owner = owner_of(spool, cursor_records(here));
    struct range range = {spool->reader.first, here->segment, owner.since};

    while (range.first != here->segment && range.first->next->header.records_before <= owner.since)
        range.first = range.first->next;
    while (range.last->next != NULL) {
        struct owner next = owner_of(spool, range.last->next->header.records_before);
        if (strcmp(next.destination, owner.destination) != 0)
            break;
        range.last = range.last->next;
    }
    return range;
}

/* One above the segment's last sequence, as far as it is written. */
static uint64_t end_sequence(const struct spool *spool, const struct segment *segment)
{
    uint64_t records;

    if (segment_is_finished(segment))
        return segment_end_sequence(segment);
    records = atomic_load(&spool->shared.records);
    return segment->header.first_sequence + records - segment->header.records_before;
}

static struct segment *find_segment(const struct spool *spool, const struct range *range,
                                    const struct mark *mark)
{
    for (struct segment *s = range->first;; s = s->next) {
        if (s->header.run == mark->run && mark->sequence >= s->header.first_sequence &&
            mark->sequence < end_sequence(spool, s))
            return s;
        if (s == range->last)
            return NULL;
    }
}

/* The place behind the mark's record, which may itself be damaged: never behind a later one. */
static struct cursor place_after(struct spool *spool, struct segment *segment, uint64_t sequence)
{
    struct cursor cursor = cursor_at(segment);
    struct record record;
    struct hole hole;

    while (cursor.sequence <= sequence) {
        struct cursor before = cursor;
        enum step step = reader_step(spool, &cursor, &record, &hole);
        reader_drop_chunks(&spool->reader);
        if (step == STEP_END || cursor.segment != segment || cursor.sequence > sequence + 1)
            return before;
    }
    return cursor;
}

bool mark_locate(struct spool *spool, struct segment *first, const struct segment *last,
                 uint64_t run, uint64_t sequence, struct cursor *after)
{
    struct range range = {first, (struct segment *)last, 0};
    struct mark mark = {run, sequence};
    struct segment *segment = find_segment(spool, &range, &mark);

    if (segment == NULL)
        return false;
    *after = place_after(spool, segment, sequence);
    return true;
}

static struct mark_result result(struct spool *spool, enum mark_kind kind, const struct cursor *to,
                                 uint64_t missing)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t committed = cursor_records(&reader->committed);

    reader_move(spool, to);
    reader_skip_finished_segments(spool, &reader->read);
    reader_skip_finished_segments(spool, &reader->committed);
    uint64_t now = cursor_records(&reader->committed);
    retention_release(spool);
    return (struct mark_result){kind, reader->read.sequence, missing,
                                committed > now ? committed - now : 0};
}

/* Where the first record of this destination that is kept begins. */
static struct cursor start_of(struct spool *spool, const struct range *range)
{
    const struct segment_header *header = &range->first->header;

    if (range->since <= header->records_before)
        return cursor_at(range->first);
    return place_after(spool, range->first,
                       header->first_sequence + range->since - header->records_before - 1);
}

static struct mark_result replay_all(struct spool *spool, const struct range *range,
                                     uint64_t missing)
{
    struct cursor start = start_of(spool, range);
    enum mark_kind kind = MARK_BEHIND;

    if (missing > 0)
        kind = MARK_GAP;
    else if (cursor_records(&start) == cursor_records(&spool->reader.committed))
        kind = MARK_IN_STEP;
    return result(spool, kind, &start, missing);
}

static struct mark_result unknown(struct spool *spool, const struct range *range, uint64_t sequence)
{
    struct cursor start = start_of(spool, range);

    if (sequence >= atomic_load(&spool->shared.sequence_floor))
        atomic_store(&spool->shared.sequence_floor, sequence + 1);
    return result(spool, MARK_UNKNOWN_RUN, &start, 0);
}

/* Records of this destination that were stored before the range and are kept no more. */
static uint64_t gone_before(const struct range *range)
{
    uint64_t before = range->first->header.records_before;

    return before > range->since ? before - range->since : 0;
}

static struct mark_result place(struct spool *spool, const struct range *range,
                                const struct mark *mark)
{
    struct segment *segment = find_segment(spool, range, mark);
    uint64_t first_sequence = range->first->header.first_sequence;

    if (segment == NULL) {
        if (mark->sequence >= first_sequence)
            return unknown(spool, range, mark->sequence);
        /* Sequences skip numbers now and then, so that this can be too many; records can't. */
        uint64_t missing = first_sequence - mark->sequence - 1;
        uint64_t gone = gone_before(range);
        return replay_all(spool, range, missing < gone ? missing : gone);
    }

    uint64_t marked =
        segment->header.records_before + mark->sequence - segment->header.first_sequence + 1;
    uint64_t committed = cursor_records(&spool->reader.committed);
    if (marked < range->since)
        return replay_all(spool, range, 0);
    if (marked == committed)
        return result(spool, MARK_IN_STEP, &spool->reader.committed, 0);
    struct cursor after = place_after(spool, segment, mark->sequence);
    return result(spool, marked > committed ? MARK_AHEAD : MARK_BEHIND, &after, 0);
}

struct mark_result spool_apply_mark(struct spool *spool, struct bytes text)
{
    struct spool_reader *reader = &spool->reader;
    struct mark mark;

    reader->mark_read = true;
    struct cursor committed = reader->committed;
    reader_move(spool, &committed); /* what was handed out is void */
    reader_skip_finished_segments(spool, &reader->committed);
    if (reader->committed.segment == NULL)
        return (struct mark_result){MARK_IN_STEP, 1, 0, 0};

    struct range range = range_around(spool, &reader->committed);
    if (text.len == 0)
        return replay_all(spool, &range, gone_before(&range));
    if (!parse_mark(text, &mark))
        return unknown(spool, &range, 0);
    return place(spool, &range, &mark);
}
