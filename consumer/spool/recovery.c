/* Recovery: reads a spool's directory when the spool is opened, whatever ended the last process.
 *
 * Survived without loss: SIGKILL at any moment (a torn record at the tail, a half-made segment).
 * Survived with a report of the loss: bad blocks and bytes, a destroyed header, a missing segment.
 * Refused: segments of two spools in one directory, and formats of later versions.
 *
 * A bad record is a torn tail only if no good record follows, in its segment or a later one. A torn
 * tail was never acknowledged, and is cut off. Any other bad record is damage, which the reader
 * steps over and counts (spool_next).
 *
 * Only the tail is read whole; of the other segments only the headers are read. */
#include "consumer/spool/spool_internal.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAMAGED_KEPT 4 /* number of kept damaged files, the newest */

struct recovery {
    struct spool *spool;
    struct segment **segments; /* ordered by number; without a header: run 0 and no texts */
    size_t len;
    uint64_t damaged[DAMAGED_KEPT]; /* the newest files that were put aside */
    size_t damaged_len;
    struct buf scratch;
};

/* Reads a segment, and calls `progress`: a large spool takes long to read, and the supervisor
 * must see the progress. */
static int read_segment(struct recovery *recovery, const struct segment *segment, struct error *err)
{
    const struct spool *spool = recovery->spool;

    if (spool->progress != NULL)
        spool->progress(spool->context);
    return segment_load(&recovery->scratch, spool->dir, segment->header.number, segment->size, err);
}

/* Scans the records, and applies them to `recent` unless that is NULL. */
static void scan_records(struct record_scan *scan, const struct segment_header *header,
                         struct bytes data, struct recent *recent)
{
    struct record_item item;
    enum record_found found;

    record_scan_begin(scan, header, data);
    while ((found = record_scan_next(scan, &item)) != RECORD_SCAN_END)
        if (found == RECORD_SCAN_RECORD && recent != NULL)
            recent_apply(recent, &item.record);
}

/* Notes a used number. No number is used twice, not even that of a file that was put aside. */
static void note_number(struct recovery *recovery, uint64_t number)
{
    if (recovery->spool->writer.next_number <= number)
        recovery->spool->writer.next_number = number + 1;
}

static void note_damaged(struct recovery *recovery, uint64_t number)
{
    uint64_t *slot = &recovery->damaged[recovery->damaged_len % DAMAGED_KEPT];
    char name[SEGMENT_NAME_SIZE];

    if (recovery->damaged_len++ >= DAMAGED_KEPT) {
        segment_name(*slot, SEGMENT_DAMAGED_SUFFIX, name);
        sys_unlinkat(recovery->spool->dir, name);
    }
    *slot = number;
    note_number(recovery, number);
}

/* Opens a segment whose header has the next number: the process ended while the last segment's
 * blocks became the next segment. */
static int open_under_next_number(struct recovery *recovery, struct segment **segment,
                                  uint64_t number, struct error *err)
{
    char name[SEGMENT_NAME_SIZE], next[SEGMENT_NAME_SIZE];

    segment_name(number, SEGMENT_SUFFIX, name);
    segment_name(number + 1, SEGMENT_SUFFIX, next);
    free(*segment);
    if (sys_renameat(recovery->spool->dir, name, next) == 0) {
        if (segment_open(segment, recovery->spool->dir, number + 1, err) == 0)
            return 0;
        free(*segment);
        (void)sys_renameat(recovery->spool->dir, next, name);
    }
    return segment_open(segment, recovery->spool->dir, number, err);
}

static int open_one(struct recovery *recovery, uint64_t number, bool is_last, struct error *err)
{
    struct segment **segment = &recovery->segments[recovery->len];
    int result = segment_open(segment, recovery->spool->dir, number, err);

    if (result == -ERR_FORMAT && is_last)
        result = open_under_next_number(recovery, segment, number, err);
    if (result < 0 && result != -ERR_FORMAT) {
        free(*segment);
        *segment = NULL;
        return error_wrap(err, "spool %s", recovery->spool->path);
    }
    recovery->len++;
    note_number(recovery, (*segment)->header.number);
    return 0;
}

static int open_segments(struct recovery *recovery, struct error *err)
{
    struct dirent **entries;
    int count = scandirat(recovery->spool->dir, ".", &entries, NULL, alphasort);
    uint64_t number, last = 0;
    int result = 0;

    if (count < 0)
        return error_system(err, "reading %s", recovery->spool->path);
    recovery->spool->writer.next_number = 1;
    recovery->spool->writer.next_sequence = 1;
    recovery->segments = xcalloc((size_t)count, sizeof(struct segment *));
    for (int i = 0; i < count; i++)
        if (segment_name_parse(entries[i]->d_name, SEGMENT_SUFFIX, &number))
            last = number;
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;

        if (segment_name_parse(name, SEGMENT_DAMAGED_SUFFIX, &number))
            note_damaged(recovery, number);
        else if (bytes_ends_with(bytes_of(name), BYTES(".oversized.half")))
            sys_unlinkat(recovery->spool->dir, name);
        else if (segment_name_parse(name, SEGMENT_SUFFIX, &number) && result == 0)
            result = open_one(recovery, number, number == last, err);
        free(entries[i]);
    }
    free(entries);
    return result;
}

static bool has_header(const struct segment *segment)
{
    return segment->header.destination[0] != '\0';
}

/* Sets the spool's id, and reads the file `recent` if it belongs to this spool. */
static void set_id(struct recovery *recovery, const struct segment *known)
{
    struct spool *spool = recovery->spool;
    struct recent_start start = {0};
    bool loaded = recent_load(spool->recent, spool->dir, &start);

    if (known != NULL)
        memcpy(spool->id, known->header.spool_id, 16);
    else if (loaded && recovery->len == 0 && start.through == 0)
        memcpy(spool->id, start.spool_id, 16);
    else
        sys_random(spool->id, 16);
    spool->recent_is_whole = loaded && memcmp(spool->id, start.spool_id, 16) == 0;
    if (!spool->recent_is_whole) {
        recent_forget(spool->recent);
        return;
    }
    memcpy(spool->recent_boot_id, start.boot_id, sizeof(spool->recent_boot_id));
    spool->reader.remembered = MAX(start.through, 1);
    spool->writer.next_sequence = start.next_sequence;
    spool->shared.branch = start.branch;
}

/* Checks that all headers name one spool. Without any header the spool is a new one. */
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
                recovery->spool->path, (unsigned long long)segment->header.number,
                (unsigned long long)known->header.number);
    }
    set_id(recovery, known);
    return 0;
}

/* Returns the nearest segment with a header: below this index (step -1) or above (step 1). */
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

    if (read_segment(recovery, segment, &err) < 0)
        buf_clear(&recovery->scratch);
    return buf_bytes(&recovery->scratch);
}

/* Estimates how many records were stored before this segment. An estimate that is too high is
 * reported as missing records. One that is too low would make the reader skip records. */
static uint64_t rebuild_records_before(struct recovery *recovery, const struct record_scan *scan,
                                       const struct segment *below, const struct segment *above)
{
    uint64_t count = scan->messages + scan->missing;
    struct record_scan below_scan;

    if (above != NULL)
        return above->header.records_before > count ? above->header.records_before - count : 0;
    scan_records(&below_scan, &below->header, load(recovery, below), NULL);
    return below->header.records_before + below_scan.messages + below_scan.missing;
}

/* Reads a segment without a header as one of `like`'s run. Returns true if the records'
 * checksums are then valid. */
static bool rebuild_as(struct recovery *recovery, struct segment *segment,
                       const struct segment *like, const struct segment *below,
                       const struct segment *above)
{
    struct segment_header *header = &segment->header;
    uint32_t seed = record_seed(like->header.spool_id, like->header.run, header->number);
    struct bytes data = load(recovery, segment);
    struct record record;
    struct record_scan scan;
    uint64_t size;

    if (data.len <= SEGMENT_HEADER_SIZE)
        return false;
    size_t at = record_find(data, SEGMENT_HEADER_SIZE, seed, 1, UINT64_MAX - 1);
    struct bytes rest = {data.data + at, data.len - at};
    if (rest.len == 0 || record_read(&record, &size, rest, seed) != RECORD_GOOD)
        return false;

    uint64_t number = header->number;
    *header = like->header;
    header->number = number;
    header->first_sequence = record.sequence;
    header->previous_sequence = record.sequence - 1; /* right if no sequences were skipped */
    segment->seed = seed;
    scan_records(&scan, header, data, NULL);
    header->records_before = rebuild_records_before(recovery, &scan, below, above);
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
    for (size_t i = 0; i < data.len; i++)
        if (data.data[i] != 0)
            return false;
    return true;
}

static void put_aside(struct recovery *recovery, struct segment *segment)
{
    /* Reserved space that was never written, as after a power cut, is no damage. */
    bool blank = is_blank(load(recovery, segment));
    const struct log_field *fields =
        LOG_WITH(log_text("spool", recovery->spool->path),
                 log_number("segment", (int64_t)segment->header.number),
                 log_number("bytes", (int64_t)segment->size));

    segment->header.damaged = !blank;
    segment_remove(recovery->spool->dir, segment);
    if (blank) {
        log_notice(fields, "Spool: removed a segment that was never written");
        return;
    }
    log_error(
        fields,
        "Spool: a segment can't be read at all: it is kept as .damaged, and its messages are lost");
}

/* Writes the header to the file. A failure is harmless: the header is right in memory, and
 * rebuilt at the next start. */
static void write_rebuilt_header(struct recovery *recovery, const struct segment *segment)
{
    struct error err;

    log_warning(LOG_WITH(log_text("spool", recovery->spool->path),
                         log_number("segment", (int64_t)segment->header.number)),
                "Spool: the damaged header of a segment was rebuilt from its records");
    if (segment_rewrite_header(recovery->spool->dir, &segment->header, &err) < 0)
        log_warning(
            LOG_WITH(log_text("spool", recovery->spool->path)),
            "Spool: a rebuilt header can't be written: %s; the next start rebuilds it again",
            err.text);
}

/* Rebuilds the headers from the highest number down: the header above tells how many records
 * were stored before that segment. */
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
            recovery->spool->tail_lost = true;
        free(segment);
        recovery->segments[i - 1] = NULL;
    }
}

static int link_segments(struct recovery *recovery, struct error *err)
{
    struct spool *spool = recovery->spool;
    struct spool_reader *reader = &spool->reader;

    for (size_t i = 0; i < recovery->len; i++) {
        struct segment *segment = recovery->segments[i];

        recovery->segments[i] = NULL;
        if (segment == NULL)
            continue;
        const struct segment_header *header = &segment->header;
        const struct segment *below = reader->last;
        reader_add(reader, segment);
        spool->shared.disk += segment->size;
        if (header->branch > spool->shared.branch)
            spool->shared.branch = header->branch;
        if (below != NULL && below->header.records_before > header->records_before)
            return error_set(err, ERR_FORMAT,
                             "spool %s: segments %llu and %llu contradict each other: restore the "
                             "directory as a whole, or move it away",
                             spool->path, (unsigned long long)below->header.number,
                             (unsigned long long)header->number);
    }
    return 0;
}

/* Cuts the tail off. A failure is harmless: the next segment's header tells how many records
 * this one has. */
static void cut_tail(struct spool *spool, struct segment *tail, uint64_t end)
{
    if (end >= tail->size)
        return;
    int fd = segment_file(spool->dir, tail->header.number, O_WRONLY);
    if (fd < 0)
        return;
    if (sys_ftruncate(fd, (off_t)end) == 0) {
        spool->shared.disk -= tail->size - end;
        tail->size = end;
    }
    close(fd);
}

/* Scans the last segment and those that `recent` does not cover, and applies their records to
 * `recent`. *scan and the result, as of segment_load, concern the last segment. */
static int scan_segments(struct recovery *recovery, struct record_scan *scan, struct error *err)
{
    struct spool *spool = recovery->spool;
    const struct spool_reader *reader = &spool->reader;
    int result = 0;

    if (!spool->recent_is_whole && reader->first->header.records_before > 0)
        log_notice(LOG_WITH(log_text("spool", spool->path)),
                   "The file " RECENT_NAME " is missing or damaged: what the broker sends again of "
                   "segments that are gone counts as new");
    /* Segments between the file and the first are gone, and RELEASEs with them: a repeat is stored again then. */
    if (reader->remembered < reader->first->header.number)
        recent_release_all(spool->recent);
    for (const struct segment *s = reader->first; s != NULL; s = s->next) {
        bool covered = s->header.number < reader->remembered;

        if (covered && s != reader->last)
            continue;
        result = read_segment(recovery, s, err);
        if (result >= 0)
            scan_records(scan, &s->header, buf_bytes(&recovery->scratch),
                         covered ? NULL : spool->recent);
    }
    return result;
}

/* Finds the end of the last record. An unfinished record behind that end is cut off, as is
 * reserved space. */
static int recover_tail(struct recovery *recovery, struct error *err)
{
    struct spool *spool = recovery->spool;
    struct segment *tail = spool->reader.last;
    struct record_scan scan = {0};
    char name[SEGMENT_NAME_SIZE];

    if (tail == NULL)
        return 0;
    int unreadable = scan_segments(recovery, &scan, err);
    if (unreadable < 0)
        return error_wrap(err, "spool %s", spool->path);
    spool->shared.tail = tail_pack(tail->header.number, scan.at);
    spool->writer.last_stored = scan.next_sequence > tail->header.first_sequence
                                    ? scan.next_sequence - 1
                                    : tail->header.previous_sequence;
    if (spool->writer.next_sequence < scan.next_sequence)
        spool->writer.next_sequence = scan.next_sequence;
    spool->shared.records = tail->header.records_before + scan.messages + scan.missing;
    spool->shared.bytes = tail->header.bytes_before + scan.at - SEGMENT_HEADER_SIZE;
    segment_name(tail->header.number, SEGMENT_SUFFIX, name);
    if (scan.torn)
        log_notice(LOG_WITH(log_text("spool", spool->path), log_text("file", name),
                            log_number("offset", (int64_t)scan.at)),
                   "Spool: cut off an unfinished record, which was not acknowledged");

    if (unreadable) {
        /* If `recent` covers the segment, that file has the next sequence. */
        if (spool->reader.remembered <= tail->header.number)
            spool->tail_lost = true;
        log_error(LOG_WITH(log_text("spool", spool->path), log_text("file", name)),
                  "Spool: the disk can't read all of the last segment: records may be lost");
        return 0;
    }
    cut_tail(spool, tail, scan.at);
    return 0;
}

static void recover_spare(struct spool *spool)
{
    struct stat status;

    sys_unlinkat(spool->dir, SEGMENT_NEW);
    int fd = sys_openat(spool->dir, SEGMENT_SPARE, O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* A spare whose making was cut short has fewer blocks than its size says, and a write could
     * lack space. */
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        (uint64_t)status.st_size == spool->segment_size &&
        (uint64_t)status.st_blocks * 512 >= spool->segment_size) {
        spool->shared.spare = fd;
        spool->shared.disk += spool->segment_size;
        return;
    }
    close(fd);
    sys_unlinkat(spool->dir, SEGMENT_SPARE);
}

static int recover_steps(struct recovery *recovery, struct error *err)
{
    int result = open_segments(recovery, err);

    if (result == 0)
        result = agree_on_id(recovery, err);
    if (result < 0)
        return result;
    rebuild_headers(recovery);
    result = link_segments(recovery, err);
    return result < 0 ? result : recover_tail(recovery, err);
}

int recovery_run(struct spool *spool, struct error *err)
{
    struct recovery recovery = {.spool = spool};
    int result = recover_steps(&recovery, err);

    for (size_t i = 0; i < recovery.len; i++)
        free(recovery.segments[i]);
    free(recovery.segments);
    buf_free(&recovery.scratch);
    if (result == 0)
        recover_spare(spool);
    return result;
}
