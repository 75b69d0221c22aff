/* What a mark means. See spool.h; the rules with their reasons are in docs/SPOOL.md, "Mark". */
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A branch begins so much above everything known, and up to BRANCH_MOST more, at random: so the sequences of two
 * copies never meet. */
#define BRANCH_LEAST (UINT64_C(1) << 40)
#define BRANCH_MOST  (UINT64_C(1) << 47)
/* Above a mark of an unknown run. Below 2^32, so that a record can say which message before it repeats. */
#define FOREIGN_STEP_MOST (UINT64_C(1) << 31)

void spool_mark_text(uint64_t run, uint64_t sequence, char text[40])
{
    snprintf(text, 40, "%016" PRIx64 ":%" PRIu64, run, sequence);
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

/* How many records the mark covers, since the spool exists; false if no segment that is kept has its record. */
static bool records_at(const struct spool *spool, const struct mark *mark, uint64_t *records)
{
    const struct segment *segment = find_segment(spool, mark);

    if (segment == NULL)
        return false;
    *records = segment->header.records_before + mark->sequence - segment->header.first_sequence + 1;
    return true;
}

/* Behind so many records, or at the oldest that is kept. A mark's own record may be damaged: then before the damage,
 * never behind a later record. */
static struct cursor cursor_behind(struct spool *spool, uint64_t records)
{
    struct segment *segment = spool->reader.first;

    while (segment->next != NULL && segment->next->header.records_before < records)
        segment = segment->next;
    struct cursor cursor = cursor_at(segment);
    while (cursor_records(&cursor) < records) {
        struct cursor before = cursor;
        struct record record;
        struct hole hole;
        enum step step = reader_step(spool, &cursor, &record, &hole);

        if (step == STEP_END || cursor.segment != segment || cursor_records(&cursor) > records)
            return before;
    }
    return cursor;
}

bool mark_locate(struct spool *spool, const struct mark *mark, struct cursor *after)
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
    uint64_t committed = cursor_records(&reader->committed);

    reader_move(spool, to);
    reader_skip_finished_segments(spool, &reader->read);
    reader_skip_finished_segments(spool, &reader->committed);
    uint64_t now = cursor_records(&reader->committed);
    retention_release(spool);
    return (struct mark_result){kind, reader->read.sequence, missing,
                                committed > now ? committed - now : 0};
}

/* Redis has so many records. */
static struct mark_result move_behind(struct spool *spool, uint64_t records, uint64_t missing)
{
    struct cursor to = spool->reader.committed;
    uint64_t committed = cursor_records(&to);
    enum mark_kind kind = MARK_IN_STEP;

    if (records != committed)
        to = cursor_behind(spool, records);
    if (missing > 0)
        kind = MARK_GAP;
    else if (records > committed)
        kind = MARK_AHEAD;
    else if (cursor_records(&to) != committed)
        kind = MARK_BEHIND;
    return move(spool, kind, &to, missing);
}

static struct mark_result no_mark(struct spool *spool)
{
    const struct segment_header *first = &spool->reader.first->header;
    uint64_t origin = spool->reader.origin;
    uint64_t kept_from = first->records_before;

    /* It branched off since: nothing is missing under the new mark. */
    if (first->first_sequence < atomic_load(&spool->shared.branch) && origin < kept_from)
        origin = kept_from;

    return move_behind(spool, origin, kept_from > origin ? kept_from - origin : 0);
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
static void skip_to(struct spool *spool, uint64_t sequence)
{
    writer_skip_to(spool, sequence);
    retention_remember(spool, tail_number(atomic_load(&spool->shared.tail)));
}

/* A process with a copy of this spool has set the mark since we have. Under one mark, each of the two would send
 * everything again whenever the other has set it. */
static void branch_off(struct spool *spool, uint64_t sequence)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t above = atomic_load(&spool->shared.last_sequence);

    above = sequence > above ? sequence : above;
    above += BRANCH_LEAST + sys_random_u64() % BRANCH_MOST;
    atomic_store(&spool->shared.branch, above);
    skip_to(spool, above);
    mark_write_id(spool);
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
    struct cursor start = cursor_at(reader->first);
    bool same = reader->mark_is_foreign && reader->foreign.run == mark->run &&
                reader->foreign.sequence == mark->sequence;

    if (same) /* nothing of ours got there in between */
        return move(spool, MARK_UNKNOWN_RUN, &start, 0);
    if (reader->mark_is_foreign) {
        branch_off(spool, mark->sequence);
        return move(spool, MARK_COPIED, &start, 0);
    }
    reader->mark_is_foreign = true;
    reader->foreign = *mark;
    /* At random, so that two copies don't give one identity to two messages until each has its own mark. */
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
    /* Sequences skip numbers now and then, so that this can be too many; records can't. */
    uint64_t missing = first->previous_sequence - mark->sequence;
    return move_behind(spool, 0, missing < first->records_before ? missing : first->records_before);
}

struct mark_result spool_apply_mark(struct spool *spool, struct bytes text)
{
    struct spool_reader *reader = &spool->reader;
    struct mark mark;

    reader->mark_read = true;
    struct cursor committed = reader->committed;
    reader_move(spool, &committed); /* what was given is void */
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
    spool->reader.origin = cursor_records(&spool->reader.committed);
}
