/* What a mark means. See spool.h; the rules with their reasons are in docs/SPOOL.md, "Mark". */
#include "consumer/spool_internal.h"

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
 * its business. */
struct range {
    struct segment *first;
    struct segment *last;
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

static bool same_destination(const struct segment *a, const struct segment *b)
{
    return strcmp(a->header.destination, b->header.destination) == 0;
}

static struct range range_around(const struct spool *spool, struct segment *here)
{
    struct range range = {here, here};
    struct segment *first = spool->reader.first;

    for (struct segment *s = first; s != here; s = s->next) {
        if (!same_destination(s, here))
            first = s->next;
    }
    range.first = first;
    while (range.last->next != NULL && same_destination(range.last->next, here))
        range.last = range.last->next;
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

bool rewind_locate(struct spool *spool, struct segment *first, const struct segment *last,
                   uint64_t run, uint64_t sequence, struct cursor *after)
{
    struct range range = {first, (struct segment *)last};
    struct mark mark = {run, sequence};
    struct segment *segment = find_segment(spool, &range, &mark);

    if (segment == NULL)
        return false;
    *after = place_after(spool, segment, sequence);
    return true;
}

static struct spool_rewound result(struct spool *spool, enum spool_rewind kind,
                                   const struct cursor *to, uint64_t missing)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t committed = cursor_records(&reader->committed);

    reader_move(spool, to);
    reader_settle(spool, &reader->read);
    reader_settle(spool, &reader->committed);
    uint64_t now = cursor_records(&reader->committed);
    keep_release(spool);
    return (struct spool_rewound){kind, reader->read.sequence, missing,
                                  committed > now ? committed - now : 0};
}

/* Everything that is kept for this destination, from its beginning. */
static struct spool_rewound replay_all(struct spool *spool, struct segment *first, uint64_t missing)
{
    struct cursor start = cursor_at(first);
    enum spool_rewind kind = SPOOL_REPLAY;

    if (missing > 0)
        kind = SPOOL_GAP;
    else if (cursor_records(&start) == cursor_records(&spool->reader.committed))
        kind = SPOOL_IN_STEP;
    return result(spool, kind, &start, missing);
}

static struct spool_rewound unknown(struct spool *spool, struct segment *first, uint64_t sequence)
{
    struct cursor start = cursor_at(first);

    if (sequence >= atomic_load(&spool->shared.sequence_floor))
        atomic_store(&spool->shared.sequence_floor, sequence + 1);
    return result(spool, SPOOL_UNKNOWN_RUN, &start, 0);
}

/* Records of this destination that were stored before `first` and are kept no more. */
static uint64_t gone_before(const struct segment *first)
{
    const struct segment_header *header = &first->header;

    return header->records_before > header->destination_since
               ? header->records_before - header->destination_since
               : 0;
}

static struct spool_rewound place(struct spool *spool, const struct range *range,
                                  const struct mark *mark)
{
    struct segment *segment = find_segment(spool, range, mark);
    uint64_t first_sequence = range->first->header.first_sequence;

    if (segment == NULL) {
        if (mark->sequence >= first_sequence)
            return unknown(spool, range->first, mark->sequence);
        /* Sequences skip numbers now and then, so that this can be too many; records can't. */
        uint64_t missing = first_sequence - mark->sequence - 1;
        uint64_t gone = gone_before(range->first);
        return replay_all(spool, range->first, missing < gone ? missing : gone);
    }

    uint64_t marked =
        segment->header.records_before + mark->sequence - segment->header.first_sequence + 1;
    uint64_t committed = cursor_records(&spool->reader.committed);
    if (marked == committed)
        return result(spool, SPOOL_IN_STEP, &spool->reader.committed, 0);
    struct cursor after = place_after(spool, segment, mark->sequence);
    return result(spool, marked > committed ? SPOOL_ADVANCED : SPOOL_REPLAY, &after, 0);
}

struct spool_rewound spool_rewind(struct spool *spool, struct bytes text)
{
    struct spool_reader *reader = &spool->reader;
    struct mark mark;

    reader->mark_read = true;
    struct cursor committed = reader->committed;
    reader_move(spool, &committed); /* what was handed out is void */
    reader_settle(spool, &reader->committed);
    if (reader->committed.segment == NULL)
        return (struct spool_rewound){SPOOL_IN_STEP, 1, 0, 0};

    struct range range = range_around(spool, reader->committed.segment);
    if (text.len == 0)
        return replay_all(spool, range.first, gone_before(range.first));
    if (!parse_mark(text, &mark))
        return unknown(spool, range.first, 0);
    return place(spool, &range, &mark);
}
