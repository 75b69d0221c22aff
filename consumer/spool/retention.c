/* Main's work on the spool's files, off the receive thread: frees segments, keeps a spare ready, saves `recent`, syncs.
 * See spool.h. */
#include "common/base/clock.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <unistd.h>

/* The file SPOOL_COMMITTED is padded to a fixed length. */
#define HINT_SIZE  40
#define HINT_BYTES ((int64_t)1024 * 1024) /* committed bytes between two writes of the hint */

/* Several hundred messages may still come after DISCONNECT. */
#define RESERVE_MIN ((uint64_t)8 * 1024 * 1024)
#define RETRY_MS    1000
/* Small segments of many starts are kept up to this number, besides what `retain` says. */
#define RETAINED_SEGMENTS_MAX 256

/* Returns the bytes that the files may take. On a disk without room for another file that is
 * their present size. */
static uint64_t limit_of(const struct spool *spool)
{
    uint64_t disk = atomic_load(&spool->shared.disk);

    return spool->reader.spare_failed ? MIN(disk, spool->size) : spool->size;
}

static uint64_t reserve_of(uint64_t limit)
{
    return MIN(MAX(limit / 8, RESERVE_MIN), limit / 4);
}

uint64_t retention_most(uint64_t size)
{
    return (size - reserve_of(size)) / 2;
}

/* True if the whole segment is in Redis, and neither position is in it. */
static bool is_committed(const struct spool *spool, const struct segment *segment)
{
    const struct cursor *committed = &spool->reader.committed;

    return reader_segment_is_finished(segment) && committed->segment != segment &&
           spool->reader.read.segment != segment &&
           reader_cursor_records(committed) >= segment->next->header.records_before;
}

static bool nothing_unsent(const struct spool *spool)
{
    return reader_cursor_records(&spool->reader.committed) >= atomic_load(&spool->shared.records);
}

/* Returns the bytes that the spare and the current segment can still take. */
static uint64_t space_left(const struct spool *spool)
{
    uint64_t tail = atomic_load(&spool->shared.tail);
    uint64_t offset = tail_offset(tail);
    uint64_t end = atomic_load(&spool->shared.segment_end);
    uint64_t space = atomic_load(&spool->shared.spare) == SPARE_NONE ? 0 : spool->segment_size;
    bool can_leave = end > 0 || space > 0;

    if (offset < end)
        space += end - offset;
    /* The last segment is freed as soon as the writer begins the next one. */
    return can_leave && nothing_unsent(spool) ? space + offset : space;
}

static bool is_above_high_water(const struct spool *spool)
{
    uint64_t disk = atomic_load(&spool->shared.disk);
    uint64_t limit = limit_of(spool);
    uint64_t space = space_left(spool);
    uint64_t room = space + (disk < limit ? limit - disk : 0);

    return room < reserve_of(limit) || (space == 0 && spool->reader.spare_failed);
}

bool spool_below_low_water(struct spool *spool)
{
    if (spool_above_high_water(spool))
        return false;
    uint64_t disk = atomic_load(&spool->shared.disk);
    uint64_t not_unsent = space_left(spool);
    uint64_t limit = limit_of(spool);

    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next)
        if (is_committed(spool, s))
            not_unsent += s->size;
    uint64_t unsent = disk > not_unsent ? disk - not_unsent : 0;
    uint64_t retained = MIN(spool->retain, retention_most(limit));
    return unsent <= (limit - reserve_of(limit) - retained) / 2;
}

void retention_remember(struct spool *spool, uint64_t through)
{
    struct spool_reader *reader = &spool->reader;
    struct recent_start start = {.through = through,
                                 .next_sequence = spool->writer.next_sequence,
                                 .branch = atomic_load(&spool->shared.branch)};

    memcpy(start.spool_id, spool->id, sizeof(start.spool_id));
    memcpy(start.boot_id, spool->boot_id, sizeof(start.boot_id));
    if (recent_save(spool->recent, spool->dir, &start,
                    !spool->opened || spool->sync != SPOOL_SYNC_NONE) < 0) {
        log_fault(&reader->remember_fault, LOG_LEVEL_WARNING,
                  LOG_WITH(log_text("spool", spool->path)),
                  "Can't write the file " RECENT_NAME " (%s): if the process ends now, what the "
                  "broker sends again may count as new",
                  strerror(errno));
        reader->remember_retry_ms = clock_monotonic_ms() + RETRY_MS;
        reader->remembered = 0;
        return;
    }
    log_fault_over(&reader->remember_fault, LOG_WITH(log_text("spool", spool->path)),
                   "The file " RECENT_NAME " is written again");
    reader->remembered = through;
    atomic_store(&spool->shared.directory_changed, true);
}

/* Saves `recent` once for each segment that the writer has begun. */
static void remember_segment(struct spool *spool)
{
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));

    if (number > spool->reader.remembered &&
        clock_monotonic_ms() >= spool->reader.remember_retry_ms)
        retention_remember(spool, number);
}

void retention_set_current(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;

    if (!spool->receives || reader->is_current || clock_monotonic_ms() < reader->current_retry_ms)
        return;
    if (spool_path_set_current(spool->path) < 0) {
        log_fault(
            &reader->current_fault, LOG_LEVEL_WARNING, LOG_WITH(log_text("spool", spool->path)),
            "Can't write the file " SPOOL_CURRENT " (%s): what the spool that received before "
            "still has may have to wait until it is written",
            strerror(errno));
        reader->current_retry_ms = clock_monotonic_ms() + RETRY_MS;
        return;
    }
    log_fault_over(&reader->current_fault, LOG_WITH(log_text("spool", spool->path)),
                   "The file " SPOOL_CURRENT " is written again");
    reader->is_current = true;
}

static void have_spare(struct spool *spool, int fd)
{
    struct spool_reader *reader = &spool->reader;

    reader->spare_failed = false;
    log_fault_over(&reader->spare_fault, LOG_WITH(log_text("spool", spool->path)),
                   "Spool: the disk has room for the next segment again");
    atomic_store(&spool->shared.spare, fd);
}

static void report_spare_failed(struct spool *spool, const struct error *err)
{
    spool->reader.spare_failed = true;
    spool->reader.spare_retry_ms = clock_monotonic_ms() + RETRY_MS;
    log_fault(&spool->reader.spare_fault, LOG_LEVEL_ERROR, LOG_WITH(log_text("spool", spool->path)),
              "Spool: the disk has no room for the next segment: %s. Existing segments are filled; "
              "tried again in %d ms",
              err->text, RETRY_MS);
}

/* True after a start with a smaller `size` if the one segment left will be freed once the next
 * one has begun. Until then the spare may exceed `size`. */
static bool last_will_be_freed(const struct spool *spool)
{
    const struct spool_reader *reader = &spool->reader;

    return reader->mark_read && reader->first == reader->last && nothing_unsent(spool) &&
           atomic_load(&spool->shared.segment_end) == 0;
}

void retention_spare(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct error err;
    int fd;

    if (!spool->receives || atomic_load(&spool->shared.spare) != SPARE_NONE)
        return;
    if (reader->spare_failed && clock_monotonic_ms() < reader->spare_retry_ms)
        return;
    uint64_t disk = atomic_fetch_add(&spool->shared.disk, spool->segment_size);
    if (disk + spool->segment_size > spool->size && !last_will_be_freed(spool)) {
        /* `size` is used up: the spool is above high water, and main disconnects from the
         * broker. */
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size);
        return;
    }
    if (segment_make(spool->dir, SEGMENT_SPARE, spool->segment_size, &fd, &err) < 0) {
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size);
        report_spare_failed(spool, &err);
        return;
    }
    have_spare(spool, fd);
}

/* Makes the last segment the next one, on a disk without room for another file, once all of it
 * is in Redis. The segment must be half full, unless nobody writes to it. Without room for
 * `recent` the next start sees by the segment's number that `recent` is old. */
static void reuse_last(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct segment *last = reader->last, *next;
    uint64_t tail = atomic_load(&spool->shared.tail);
    struct error err;

    if (!reader->spare_failed || atomic_load(&spool->shared.spare) != SPARE_NONE || last == NULL ||
        reader->first != last || reader->committed.segment != last ||
        tail_pack(last->header.number, reader->committed.offset) != tail)
        return;
    if (atomic_load(&spool->shared.segment_end) > 0 && tail_offset(tail) < spool->segment_size / 2)
        return;
    if (clock_monotonic_ms() < reader->reuse_retry_ms)
        return;
    int result = -ERR_FENCED; /* the result if something was appended meanwhile */
    pthread_mutex_lock(&spool->appending);
    if (atomic_load(&spool->shared.tail) == tail) {
        /* Nothing more is appended to the segment, whatever the result is: `recent` may cover
         * it. */
        retention_remember(spool, last->header.number + 1);
        result = writer_reuse_segment(spool, last->header.number, &err);
    }
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));
    pthread_mutex_unlock(&spool->appending);
    if (result < 0) {
        reader->reuse_retry_ms = clock_monotonic_ms() + RETRY_MS;
        return;
    }
    atomic_fetch_sub(&spool->shared.disk, last->size);
    free(last);
    if (segment_open(&next, spool->dir, number, &err) < 0)
        spool_die(spool, err.text);
    reader->first = reader->last = NULL;
    reader_add(reader, next);
    struct cursor start = reader_cursor_at(next);
    reader_move(spool, &start);
}

/* Makes the freed segment the spare, for its blocks. Old records of the segment are never read as
 * new ones, since checksums begin with the segment's number. */
static bool recycle(struct spool *spool, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(segment->header.number, SEGMENT_SUFFIX, name);
    if (!spool->receives || segment->size != spool->segment_size || segment->header.damaged ||
        atomic_load(&spool->shared.spare) != SPARE_NONE ||
        sys_renameat(spool->dir, name, SEGMENT_SPARE) < 0)
        return false;
    int fd = sys_openat(spool->dir, SEGMENT_SPARE, O_RDWR | O_CLOEXEC, 0);
    if (fd >= 0) {
        have_spare(spool, fd);
        return true;
    }
    sys_unlinkat(spool->dir, SEGMENT_SPARE);
    atomic_fetch_sub(&spool->shared.disk, segment->size);
    return true;
}

static void remove_segment(const struct spool *spool, const struct segment *segment)
{
    if (segment_remove(spool->dir, segment) < 0 && errno != ENOENT)
        log_warning(LOG_WITH(log_text("spool", spool->path),
                             log_number("segment", (int64_t)segment->header.number)),
                    "Spool: a segment can't be removed: %s; its file stays until the next start",
                    strerror(errno));
}

/* Frees a segment without a sync. A segment that returns after a power cut was sent. A recycled
 * one has its name synced when it becomes a segment. */
static void free_segment(struct spool *spool, struct segment *segment)
{
    if (!recycle(spool, segment)) {
        remove_segment(spool, segment);
        atomic_fetch_sub(&spool->shared.disk, segment->size);
    }
    free(segment);
}

/* True if sent messages must not be retained because new ones need the space: above high water,
 * or without room for the next segment. */
static bool must_free_retained(const struct spool *spool)
{
    bool no_next = spool->reader.spare_failed && atomic_load(&spool->shared.spare) == SPARE_NONE;

    return no_next || is_above_high_water(spool);
}

static bool is_retained(const struct spool *spool, const struct segment *segment, size_t segments)
{
    int64_t kept =
        reader_cursor_bytes(&spool->reader.committed) - (int64_t)segment->next->header.bytes_before;

    return kept < (int64_t)spool->retain && segments <= RETAINED_SEGMENTS_MAX &&
           !must_free_retained(spool);
}

void retention_release(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    size_t retained = 0;

    reader_skip_finished_segments(spool, &reader->committed);
    /* If the segment has nothing to read, the read position must not keep it. */
    if (reader_cursor_records(&reader->read) == reader_cursor_records(&reader->committed))
        reader_skip_finished_segments(spool, &reader->read);
    for (const struct segment *s = reader->first; s != NULL && is_committed(spool, s); s = s->next)
        retained++;
    while (reader->first != NULL && is_committed(spool, reader->first)) {
        struct segment *oldest = reader->first;

        if (is_retained(spool, oldest, retained))
            break;
        remember_segment(spool);
        reader->first = oldest->next;
        retained--;
        free_segment(spool, oldest);
        /* The disk may have room now, so that no more must be freed. */
        if (reader->spare_failed) {
            reader->spare_retry_ms = 0;
            retention_spare(spool);
        }
    }
    /* The hint is written at once if Redis has less than it says: lost records would not be sent
     * to the next server. */
    int64_t ahead = reader_cursor_bytes(&reader->committed) - reader->hinted_bytes;
    if (ahead < 0 || ahead >= HINT_BYTES)
        retention_hint(spool);
    retention_spare(spool);
}

bool spool_above_high_water(struct spool *spool)
{
    retention_spare(spool);
    remember_segment(spool);
    retention_set_current(spool);
    /* When everything is sent, no commit will free space, so that it is freed here. While
     * something is unsent, or before Redis's mark is read, a replay may need the retained
     * messages. */
    if (spool->reader.mark_read && nothing_unsent(spool)) {
        if (must_free_retained(spool))
            retention_release(spool);
        reuse_last(spool);
    }
    return is_above_high_water(spool);
}

void spool_remove_segments(struct spool *spool)
{
    static const char *const NAMES[] = {SEGMENT_SPARE, SEGMENT_NEW, SPOOL_COMMITTED, RECENT_NAME,
                                        RECENT_NEW};

    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next)
        remove_segment(spool, s);
    for (size_t i = 0; i < LENGTH_OF(NAMES); i++)
        sys_unlinkat(spool->dir, NAMES[i]);
    spool->opened = false; /* makes spool_close write no files */
}

/* Computes the mark of the last committed record, or else of the record before the oldest kept
 * one. No segment has that record, so that the next start begins at the oldest. Returns false if
 * no record is kept. */
static bool last_committed(const struct spool_reader *reader, struct mark *mark)
{
    uint64_t records = reader_cursor_records(&reader->committed);
    const struct segment *first = reader->first;

    if (first == NULL)
        return false;
    *mark = (struct mark){first->header.run, first->header.previous_sequence};
    for (const struct segment *s = first; s != NULL && s->header.records_before < records;
         s = s->next) {
        mark->run = s->header.run;
        mark->sequence = s->header.first_sequence + records - s->header.records_before - 1;
    }
    return true;
}

void retention_hint(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    char text[HINT_SIZE], data[HINT_SIZE + 1];
    struct mark mark;

    if (reader_cursor_bytes(&reader->committed) == reader->hinted_bytes ||
        !last_committed(reader, &mark))
        return;
    spool_mark_text(mark.run, mark.sequence, text);
    snprintf(data, sizeof(data), "%-39s\n", text);
    /* Without the hint the next start counts more messages as unsent, until it has read the
     * mark. */
    if (pwrite(reader->hint_fd, data, HINT_SIZE, 0) == HINT_SIZE)
        reader->hinted_bytes = reader_cursor_bytes(&reader->committed);
}

bool retention_read_hint(struct spool *spool, struct mark *mark)
{
    char data[HINT_SIZE];

    spool->reader.hint_fd =
        sys_openat(spool->dir, SPOOL_COMMITTED, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (pread(spool->reader.hint_fd, data, HINT_SIZE, 0) != HINT_SIZE)
        return false;
    return mark_parse(bytes_trim((struct bytes){data, HINT_SIZE}), mark);
}

static void sync_segment(struct spool *spool, uint64_t number)
{
    int fd = segment_file(spool->dir, number, O_RDONLY);

    if (fd < 0 && errno == ENOENT)
        return; /* committed and freed since */
    if (fd < 0 || sys_fdatasync(fd) < 0)
        spool_die(spool, "fdatasync");
    close(fd);
}

void spool_sync(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));

    if (spool->sync == SPOOL_SYNC_NONE)
        return;
    for (uint64_t i = reader->synced_number; i <= number; i++)
        sync_segment(spool, i);
    reader->synced_number = number;
    if (atomic_exchange(&spool->shared.directory_changed, false) && sys_fsync(spool->dir) < 0)
        spool_die(spool, "fsync of the directory");
}
