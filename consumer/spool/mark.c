/* What a mark means. See spool.h; the rules with their reasons are in docs/SPOOL.md, "Mark". */
#include "common/base/random.h"
#include "consumer/spool/spool_internal.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* A mark above it is nobody's: sequences would take millennia to get there. */
#define SEQUENCE_MAX (UINT64_C(1) << 62)
/* A branch begins so much above everything known, and up to BRANCH_MOST more: two copies never meet. */
#define BRANCH_LEAST (UINT64_C(1) << 40)
#define BRANCH_MOST  (UINT64_C(1) << 47)
/* Above a mark that we can't place; what was stored before stays within the reach of a repeat. */
#define FOREIGN_STEP_MOST (UINT64_C(1) << 31)

void spool_mark_text(uint64_t run, uint64_t sequence, char text[40])
{
    snprintf(text, 40, "%016" PRIx64 ":%" PRIu64, run, sequence);
}

static bool parse_mark(struct bytes text, struct mark *mark)
{
    struct bytes run, sequence;

    *mark = (struct mark){0};
    if (!bytes_split(text, ':', &run, &sequence) || run.len != 16)
        return false;
    uint64_t parsed = 0;
    for (size_t i = 0; i < run.len; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = memchr(digits, run.data[i], 16);
        if (digit == NULL)
            return false;
        parsed = parsed << 4 | (uint64_t)(digit - digits);
    }
    if (!bytes_to_u64(sequence, &mark->sequence) || mark->sequence >= SEQUENCE_MAX) {
        mark->sequence = 0;
        return false;
    }
    mark->run = parsed;
    return true;
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

static struct segment *find_segment(const struct spool *spool, const struct mark *mark)
{
    struct segment *s = spool->reader.first;

    while (s != NULL && (s->header.run != mark->run || mark->sequence < s->header.first_sequence ||
                         mark->sequence >= end_sequence(spool, s)))
        s = s->next;
    return s;
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
        if (step == STEP_END || cursor.segment != segment || cursor.sequence > sequence + 1)
            return before;
    }
    return cursor;
}

bool mark_locate(struct spool *spool, const struct mark *mark, struct cursor *after)
{
    struct segment *segment = find_segment(spool, mark);

    if (segment != NULL)
        *after = place_after(spool, segment, mark->sequence);
    return segment != NULL;
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

/* From the record before which so many were stored, or from the oldest that is kept. */
static struct mark_result replay_from(struct spool *spool, uint64_t records, uint64_t missing)
{
    struct segment *segment = spool->reader.first;
    enum mark_kind kind = MARK_BEHIND;

    while (segment->next != NULL && segment->next->header.records_before <= records)
        segment = segment->next;
    struct cursor start = cursor_at(segment);
    if (records > segment->header.records_before)
        start = place_after(spool, segment,
                            segment->header.first_sequence + records -
                                segment->header.records_before - 1);
    if (missing > 0)
        kind = MARK_GAP;
    else if (cursor_records(&start) == cursor_records(&spool->reader.committed))
        kind = MARK_IN_STEP;
    return result(spool, kind, &start, missing);
}

static struct mark_result no_mark(struct spool *spool)
{
    uint64_t origin = spool->reader.origin;
    uint64_t kept_from = spool->reader.first->header.records_before;

    return replay_from(spool, origin, kept_from > origin ? kept_from - origin : 0);
}

void mark_write_id(struct spool *spool)
{
    uint64_t branch = atomic_load(&spool->shared.branch);
    int len = snprintf(spool->reader.mark_id, sizeof(spool->reader.mark_id), "%s", spool->id_text);

    if (branch > 0)
        snprintf(spool->reader.mark_id + len, sizeof(spool->reader.mark_id) - (size_t)len,
                 "-%" PRIx64, branch);
}

/* For the next start as well, which may come before the next append. */
static void raise_floor(struct spool *spool, uint64_t floor)
{
    struct segment_header *last = &spool->reader.last->header;
    struct error err;

    atomic_store(&spool->shared.sequence_floor, floor);
    last->sequence_floor = floor;
    if (segment_rewrite_header(spool->dir, last, &err) < 0)
        log_warning(LOG_WITH(log_text("spool", spool->path)), "%s", err.text);
}

/* Somebody else has set a mark since we have: he has a copy of this spool, and would send everything again
 * whenever we have set ours, and we whenever he has set his. */
static void branch_off(struct spool *spool, uint64_t sequence)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t above = atomic_load(&spool->shared.last_sequence);

    above = sequence > above ? sequence : above;
    above += BRANCH_LEAST + random_u64() % BRANCH_MOST;
    atomic_store(&spool->shared.branch, above);
    reader->last->header.branch = above;
    raise_floor(spool, above);
    mark_write_id(spool);
    reader->mark_is_foreign = false;
    reader->origin = reader->first->header.records_before; /* nothing is missing under a new mark */
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
    struct cursor start = cursor_at(reader->first);
    bool same = reader->mark_is_foreign && reader->foreign.run == mark->run &&
                reader->foreign.sequence == mark->sequence;

    if (same) /* nothing of ours got there in between */
        return result(spool, MARK_UNKNOWN_RUN, &start, 0);
    if (reader->mark_is_foreign) {
        branch_off(spool, mark->sequence);
        return result(spool, MARK_COPIED, &start, 0);
    }
    reader->mark_is_foreign = true;
    reader->foreign = *mark;
    /* At random, so that two copies don't give one identity to two messages until each has its own mark. */
    uint64_t last = atomic_load(&spool->shared.last_sequence);
    raise_floor(spool, (mark->sequence > last ? mark->sequence : last) + 1 +
                           random_u64() % FOREIGN_STEP_MOST);
    return result(spool, MARK_UNKNOWN_RUN, &start, 0);
}

static struct mark_result place(struct spool *spool, const struct mark *mark)
{
    struct segment *segment = find_segment(spool, mark);
    const struct segment_header *first = &spool->reader.first->header;

    if (segment == NULL) {
        if (mark->sequence > first->previous_sequence)
            return unknown(spool, mark);
        /* Sequences skip numbers now and then, so that this can be too many; records can't. */
        uint64_t missing = first->previous_sequence - mark->sequence;
        return replay_from(spool, 0,
                           missing < first->records_before ? missing : first->records_before);
    }

    uint64_t marked =
        segment->header.records_before + mark->sequence - segment->header.first_sequence + 1;
    uint64_t committed = cursor_records(&spool->reader.committed);
    if (marked == committed)
        return result(spool, MARK_IN_STEP, &spool->reader.committed, 0);
    struct cursor after = place_after(spool, segment, mark->sequence);
    return result(spool, marked > committed ? MARK_AHEAD : MARK_BEHIND, &after, 0);
}

/* What is committed has to stay while it may be read again. */
static void withdraw_offer(struct spool *spool)
{
    _Atomic uint64_t *offered = &spool->shared.offered;

    for (;;) {
        uint64_t now = atomic_load(offered);
        if (now == OFFER_NONE ||
            (now != OFFER_TAKEN && atomic_compare_exchange_strong(offered, &now, OFFER_NONE)))
            return;
        /* The writer is at it: until the new segment is there, or it has failed. */
        reader_discover_segments(spool);
        sched_yield();
    }
}

struct mark_result spool_apply_mark(struct spool *spool, struct bytes text)
{
    struct spool_reader *reader = &spool->reader;
    struct mark mark;

    reader->mark_read = true;
    withdraw_offer(spool);
    struct cursor committed = reader->committed;
    reader_move(spool, &committed); /* what was given is void */
    reader_skip_finished_segments(spool, &reader->committed);
    if (reader->committed.segment == NULL)
        return (struct mark_result){MARK_IN_STEP, 1, 0, 0};
    if (text.len == 0)
        return no_mark(spool);
    return parse_mark(text, &mark) ? place(spool, &mark) : unknown(spool, &mark);
}

bool spool_knows_mark(const struct spool *spool, struct bytes text)
{
    const struct segment *first = spool->reader.first;
    struct mark mark;

    if (first == NULL || !parse_mark(text, &mark))
        return false;
    return find_segment(spool, &mark) != NULL ||
           (mark.sequence <= first->header.previous_sequence &&
            (mark.run == first->header.run || mark.sequence == first->header.previous_sequence));
}

void spool_redirect(struct spool *spool)
{
    spool->reader.origin = cursor_records(&spool->reader.committed);
}
