#include "consumer/spool/recovery.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/sys.h"
#include "consumer/spool/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAMAGED_KEPT 4 /* more than this many nobody looks at */

struct numbers {
    uint64_t *at;
    size_t len;
};

struct recovery {
    struct recovered *out;
    int dir;
    const char *path;
    struct numbers numbers;    /* of the segments */
    struct segment **segments; /* by number; those without a header have run 0 and no texts */
    size_t len;
    struct numbers damaged; /* files that were put aside */
    struct buf scratch;
};

void recover_scan(struct recover_scan *scan, struct bytes data, uint64_t from, uint32_t seed,
                  uint64_t first_sequence, struct recent *recent)
{
    *scan = (struct recover_scan){.end = from, .next_sequence = first_sequence};
    if (data.len <= from)
        return;
    /* As many as there is room for: keeps the search from trying what can't be. */
    uint64_t highest = first_sequence + data.len / RECORD_HEAD_SIZE;
    uint64_t at = from;

    for (;;) {
        struct record record;
        uint64_t size = 0;
        at = record_find(data, at, seed, scan->next_sequence, highest);
        if (at == data.len)
            break;
        struct bytes rest = {data.data + at, data.len - at};
        if (record_read(&record, &size, rest, seed) != RECORD_GOOD)
            break;
        bool is_message = record.type == RECORD_MESSAGE;
        scan->records += is_message;
        scan->missing += record.sequence - scan->next_sequence;
        scan->next_sequence = record.sequence + is_message;
        if (recent != NULL)
            recent_apply(recent, &record);
        at += size;
        scan->end = at;
    }
    struct record torn;
    uint64_t size = 0;
    struct bytes rest = {data.data + scan->end, data.len - scan->end};
    scan->torn = rest.len >= RECORD_HEAD_SIZE &&
                 (record_read(&torn, &size, rest, seed) == RECORD_CUT || size > 0);
}

static void add_number(struct numbers *numbers, uint64_t number)
{
    numbers->at = xrealloc(numbers->at, (numbers->len + 1) * sizeof(*numbers->at));
    numbers->at[numbers->len++] = number;
}

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static void sort_numbers(struct numbers *numbers)
{
    if (numbers->len > 0)
        qsort(numbers->at, numbers->len, sizeof(*numbers->at), by_number);
}

static int list_directory(struct recovery *recovery, struct error *err)
{
    struct dirent **entries;
    int count = scandirat(recovery->dir, ".", &entries, NULL, NULL);
    uint64_t number;

    if (count < 0)
        return error_system(err, "reading %s", recovery->path);
    for (int i = 0; i < count; i++) {
        if (segment_name_parse(entries[i]->d_name, "segment", &number))
            add_number(&recovery->numbers, number);
        else if (segment_name_parse(entries[i]->d_name, "damaged", &number))
            add_number(&recovery->damaged, number);
        free(entries[i]);
    }
    free(entries);
    sort_numbers(&recovery->numbers);
    sort_numbers(&recovery->damaged);
    return 0;
}

static bool has_header(const struct segment *segment)
{
    return segment->header.destination != NULL;
}

static int open_segments(struct recovery *recovery, struct error *err)
{
    const struct numbers *numbers = &recovery->numbers;

    recovery->segments = xcalloc(numbers->len + 1, sizeof(struct segment *));
    for (size_t i = 0; i < numbers->len; i++) {
        struct segment **segment = &recovery->segments[i];
        int result = segment_open(segment, recovery->dir, numbers->at[i], err);
        if (result == 0 || result == -ERR_FORMAT) {
            recovery->len++;
            continue;
        }
        segment_free(*segment);
        *segment = NULL;
        error_wrap(err, "spool %s", recovery->path);
        return result;
    }
    return 0;
}

/* All headers must name one spool; without any, this becomes a new one. */
static int agree_on_id(struct recovery *recovery, struct error *err)
{
    const struct segment *known = NULL;

    for (size_t i = recovery->len; i > 0; i--) {
        const struct segment *segment = recovery->segments[i - 1];
        if (!has_header(segment))
            continue;
        if (known == NULL)
            known = segment;
        if (memcmp(known->header.spool_id, segment->header.spool_id, 16) != 0)
            return error_set(
                err, ERR_FORMAT,
                "spool %s: segments %llu and %llu belong to different spools: move one "
                "spool's files elsewhere",
                recovery->path, (unsigned long long)segment->header.number,
                (unsigned long long)known->header.number);
    }
    if (known != NULL)
        memcpy(recovery->out->spool_id, known->header.spool_id, 16);
    else
        random_bytes(recovery->out->spool_id, 16);
    return 0;
}

/* The nearest segment with a header: below (step -1) or above (step 1) this index. */
static struct segment *neighbour(const struct recovery *recovery, size_t index, int step)
{
    for (size_t i = index + (size_t)step; i < recovery->len; i += (size_t)step) {
        struct segment *segment = recovery->segments[i];
        if (segment != NULL && has_header(segment))
            return segment;
    }
    return NULL;
}

static struct bytes load(struct recovery *recovery, const struct segment *segment)
{
    struct error err;

    if (segment_load(&recovery->scratch, recovery->dir, segment->header.number, segment->size,
                     &err) < 0)
        buf_clear(&recovery->scratch);
    return buf_bytes(&recovery->scratch);
}

static void scan_segment(struct recovery *recovery, struct recover_scan *scan,
                         const struct segment *segment)
{
    recover_scan(scan, load(recovery, segment), SEGMENT_HEADER_SIZE, segment->seed,
                 segment->header.first_sequence, NULL);
}

/* How many records were stored before this one began. Rather too many than too few: what is above the
 * truth is reported as missing, what is below it would be skipped. */
static uint64_t rebuild_records_before(struct recovery *recovery, const struct segment *segment,
                                       const struct recover_scan *scan, const struct segment *below,
                                       const struct segment *above)
{
    uint64_t count = scan->records + scan->missing;
    struct recover_scan below_scan;

    if (above != NULL)
        return above->header.records_before > count ? above->header.records_before - count : 0;
    if (below->header.run == segment->header.run)
        return below->header.records_before + segment->header.first_sequence -
               below->header.first_sequence;
    scan_segment(recovery, &below_scan, below);
    return below->header.records_before + below_scan.records + below_scan.missing;
}

/* A segment whose header is gone, read as if it were of `like`'s run: true if that makes sense of it. */
static bool rebuild_as(struct recovery *recovery, struct segment *segment,
                       const struct segment *like, const struct segment *below,
                       const struct segment *above)
{
    struct segment_header *header = &segment->header;
    uint32_t seed = record_seed(like->header.spool_id, like->header.run, header->number);
    struct bytes data = load(recovery, segment);
    size_t at = SEGMENT_HEADER_SIZE;
    struct record record;
    struct recover_scan scan;
    uint64_t size;

    if (data.len <= SEGMENT_HEADER_SIZE)
        return false;
    at = record_find(data, at, seed, 1, UINT64_MAX - 1);
    struct bytes rest = {data.data + at, data.len - at};
    if (rest.len == 0 || record_read(&record, &size, rest, seed) != RECORD_GOOD)
        return false;

    uint64_t number = header->number;
    *header = like->header;
    header->number = number;
    header->first_sequence = record.sequence;
    header->previous_sequence = record.sequence - 1; /* as it mostly is */
    header->client_id = xstrdup(like->header.client_id);
    header->destination = xstrdup(like->header.destination);
    segment->seed = seed;
    recover_scan(&scan, data, SEGMENT_HEADER_SIZE, seed, record.sequence, NULL);
    header->records_before = rebuild_records_before(recovery, segment, &scan, below, above);
    uint64_t bytes = segment->size - SEGMENT_HEADER_SIZE;
    if (above != NULL)
        header->bytes_before =
            above->header.bytes_before > bytes ? above->header.bytes_before - bytes : 0;
    else
        header->bytes_before = below->header.bytes_before + below->size - SEGMENT_HEADER_SIZE;
    return true;
}

static bool is_blank(struct bytes data)
{
    for (size_t i = 0; i < data.len; i++) {
        if (data.data[i] != 0)
            return false;
    }
    return true;
}

static void put_aside(struct recovery *recovery, struct segment *segment)
{
    /* Space that was reserved and never written, as a power cut leaves it, tells nobody anything. */
    bool blank = is_blank(load(recovery, segment));
    const struct log_field *fields = LOG_WITH(
        log_text("spool", recovery->path), log_number("segment", (int64_t)segment->header.number),
        log_number("bytes", (int64_t)segment->size));

    segment->header.damaged = !blank;
    segment_remove(recovery->dir, segment);
    if (blank) {
        log_notice(fields, "Removed a segment of the spool that was never written");
        return;
    }
    add_number(&recovery->damaged, segment->header.number);
    log_error(fields,
              "A segment of the spool can't be read at all: it is put aside (.damaged), what "
              "it held is lost");
}

/* If it can't be written, it is right in memory, and will be rebuilt again. */
static void write_rebuilt_header(struct recovery *recovery, const struct segment *segment)
{
    struct error err;

    log_warning(LOG_WITH(log_text("spool", recovery->path),
                         log_number("segment", (int64_t)segment->header.number)),
                "The header of a segment of the spool was damaged: rebuilt from its records");
    if (segment_rewrite_header(recovery->dir, &segment->header, &err) < 0)
        log_warning(LOG_WITH(log_text("spool", recovery->path)), "%s", err.text);
}

/* From the highest down, since what lies above is the better witness. */
static void rebuild_headers(struct recovery *recovery)
{
    for (size_t i = recovery->len; i > 0; i--) {
        struct segment *segment = recovery->segments[i - 1];
        if (has_header(segment))
            continue;
        const struct segment *below = neighbour(recovery, i - 1, -1);
        const struct segment *above = neighbour(recovery, i - 1, 1);
        if ((below != NULL && rebuild_as(recovery, segment, below, below, above)) ||
            (above != NULL && rebuild_as(recovery, segment, above, below, above))) {
            write_rebuilt_header(recovery, segment);
            continue;
        }
        put_aside(recovery, segment);
        if (above == NULL)
            recovery->out->tail_lost = true;
        segment_free(segment);
        recovery->segments[i - 1] = NULL;
    }
}

static int link_segments(struct recovery *recovery, struct error *err)
{
    struct recovered *out = recovery->out;

    for (size_t i = 0; i < recovery->len; i++) {
        struct segment *segment = recovery->segments[i];
        recovery->segments[i] = NULL;
        if (segment == NULL)
            continue;
        if (out->last == NULL)
            out->first = segment;
        else
            out->last->next = segment;
        struct segment *below = out->last;
        out->last = segment;
        out->disk += segment->size;
        if (segment->header.branch > out->branch)
            out->branch = segment->header.branch;
        if (segment->header.sequence_floor > out->sequence_floor)
            out->sequence_floor = segment->header.sequence_floor;
        if (below != NULL && below->header.records_before > segment->header.records_before)
            return error_set(err, ERR_FORMAT,
                             "spool %s: segments %llu and %llu contradict each other: restore the "
                             "directory as a whole, or move it away",
                             recovery->path, (unsigned long long)below->header.number,
                             (unsigned long long)segment->header.number);
    }
    return 0;
}

/* If it can't be cut, no harm: the next segment's header tells how many records this one has. */
static void cut_tail(struct recovered *out, int dir, const char *name, uint64_t end)
{
    if (end >= out->last->size)
        return;
    int fd = sys_openat(dir, name, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sys_ftruncate(fd, (off_t)end) == 0) {
        out->disk -= out->last->size - end;
        out->last->size = end;
    }
    close(fd);
}

/* Where the last process had got to. What it had begun and not finished is cut off, and so is the space
 * that it had reserved. */
static int recover_tail(struct recovery *recovery, struct error *err)
{
    struct recovered *out = recovery->out;
    struct segment *tail = out->last;
    struct recover_scan scan;
    char name[SEGMENT_NAME_SIZE];

    if (tail == NULL) {
        out->next_sequence = 1;
        return 0;
    }
    int unreadable =
        segment_load(&recovery->scratch, recovery->dir, tail->header.number, tail->size, err);
    if (unreadable < 0)
        return error_wrap(err, "spool %s", recovery->path);
    recover_scan(&scan, buf_bytes(&recovery->scratch), SEGMENT_HEADER_SIZE, tail->seed,
                 tail->header.first_sequence, NULL);
    out->tail_end = scan.end;
    out->next_sequence = scan.next_sequence;
    out->records = tail->header.records_before + scan.records + scan.missing;
    out->bytes = tail->header.bytes_before + scan.end - SEGMENT_HEADER_SIZE;
    segment_name(tail->header.number, "segment", name);
    if (scan.torn)
        log_notice(LOG_WITH(log_text("spool", recovery->path), log_text("file", name),
                            log_number("offset", (int64_t)scan.end)),
                   "Cut off a record that was not finished, and so not acknowledged");

    if (unreadable) {
        out->tail_lost = true;
        log_error(LOG_WITH(log_text("spool", recovery->path), log_text("file", name)),
                  "The disk can't read all of the spool's last segment: records may be lost");
        return 0;
    }
    cut_tail(out, recovery->dir, name, scan.end);
    return 0;
}

static void look_for_spare(struct recovery *recovery, uint64_t spare_size)
{
    struct stat status;

    sys_unlinkat(recovery->dir, SEGMENT_NEW);
    if (fstatat(recovery->dir, SEGMENT_SPARE, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    /* Blocks may be fewer than its size tells when its making was cut short; the writer would then run
     * out of space behind its promise. */
    recovery->out->has_spare = S_ISREG(status.st_mode) && (uint64_t)status.st_size == spare_size &&
                               (uint64_t)status.st_blocks * 512 >= spare_size;
    if (!recovery->out->has_spare)
        sys_unlinkat(recovery->dir, SEGMENT_SPARE);
}

/* Numbers are never used twice, not even those of files that were put aside. */
static uint64_t next_number(const struct recovery *recovery)
{
    const struct numbers *lists[] = {&recovery->numbers, &recovery->damaged};
    uint64_t highest = 0;

    for (size_t i = 0; i < 2; i++)
        if (lists[i]->len > 0 && lists[i]->at[lists[i]->len - 1] > highest)
            highest = lists[i]->at[lists[i]->len - 1];
    return highest + 1;
}

static void prune_damaged(struct recovery *recovery)
{
    char name[SEGMENT_NAME_SIZE];

    sort_numbers(&recovery->damaged);
    for (size_t i = 0; i + DAMAGED_KEPT < recovery->damaged.len; i++) {
        segment_name(recovery->damaged.at[i], "damaged", name);
        sys_unlinkat(recovery->dir, name);
    }
}

static int recover_steps(struct recovery *recovery, uint64_t spare_size, struct error *err)
{
    int result = list_directory(recovery, err);

    if (result == 0)
        result = open_segments(recovery, err);
    if (result == 0)
        result = agree_on_id(recovery, err);
    if (result < 0)
        return result;
    recovery->out->next_number = next_number(recovery);
    rebuild_headers(recovery);
    result = link_segments(recovery, err);
    if (result == 0)
        result = recover_tail(recovery, err);
    if (result < 0)
        return result;
    look_for_spare(recovery, spare_size);
    prune_damaged(recovery);
    return 0;
}

int recover(struct recovered *recovered, int dir, const char *path, uint64_t spare_size,
            struct error *err)
{
    struct recovery recovery = {.out = recovered, .dir = dir, .path = path};

    *recovered = (struct recovered){0};
    int result = recover_steps(&recovery, spare_size, err);
    for (size_t i = 0; recovery.segments != NULL && i < recovery.numbers.len; i++)
        segment_free(recovery.segments[i]);
    if (result < 0)
        recovered_free(recovered);
    free(recovery.segments);
    free(recovery.numbers.at);
    free(recovery.damaged.at);
    buf_free(&recovery.scratch);
    return result;
}

void recovered_free(struct recovered *recovered)
{
    while (recovered->first != NULL) {
        struct segment *next = recovered->first->next;
        segment_free(recovered->first);
        recovered->first = next;
    }
    recovered->last = NULL;
}
