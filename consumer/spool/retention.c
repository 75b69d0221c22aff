/* What main does about the spool's files, off the receive thread: frees what is retained no more, keeps a
 * spare ready, remembers, syncs. See spool.h. */
#include "common/base/clock.h"
#include "common/base/little_endian.h"
#include "common/base/sys.h"
#include "common/client/oversized_file.h"
#include "common/wire/crc32c.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* How far Redis had got, as far as this process knew: a hint for the next start, whose word is the mark
 * in Redis. Magic, CRC, spool id, run, sequence. */
#define HINT_NAME  "committed"
#define HINT_SIZE  48
#define HINT_BYTES ((int64_t)1024 * 1024) /* written when so much more is committed */
static const char hint_magic[8] = "MQBDONE";

#define RESERVE_MIN                                                                                \
    ((uint64_t)8 * 1024 * 1024) /* several hundred messages still come after the DISCONNECT */
#define SPARE_RETRY_MS     1000
#define OVERSIZED_COUNT_MS 10000
/* Small segments of many starts are kept up to this number, besides what `retain` says. */
#define RETAINED_SEGMENTS_MAX 256

/* Water --------------------------------------------------------------------------------------------- */

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What the files may take: on a disk that has no room for another one, what they take now. */
static uint64_t limit_of(const struct spool *spool)
{
    uint64_t disk = atomic_load(&spool->shared.disk);

    return spool->reader.spare_failed ? lower(disk, spool->size) : spool->size;
}

static uint64_t reserve_of(uint64_t limit)
{
    return lower(limit / 8 > RESERVE_MIN ? limit / 8 : RESERVE_MIN, limit / 4);
}

uint64_t retention_most(uint64_t size)
{
    return (size - reserve_of(size)) / 2;
}

bool retention_is_committed(const struct spool *spool, const struct segment *segment)
{
    const struct cursor *committed = &spool->reader.committed;

    return segment_is_finished(segment) && committed->segment != segment &&
           spool->reader.read.segment != segment &&
           cursor_records(committed) >= segment->next->header.records_before;
}

bool retention_nothing_unsent(const struct spool *spool)
{
    return cursor_records(&spool->reader.committed) >= atomic_load(&spool->shared.records);
}

/* What the spare and the segment that is being written can still take. */
static uint64_t space_in_hand(const struct spool *spool)
{
    uint64_t offset = tail_offset(atomic_load(&spool->shared.tail));
    uint64_t end = atomic_load(&spool->shared.segment_end);
    uint64_t space = atomic_load(&spool->shared.spare) == SPARE_NONE ? 0 : spool->segment_size;

    if (offset < end)
        space += end - offset;
    /* What it holds goes as soon as the writer leaves it. */
    return retention_nothing_unsent(spool) ? space + offset : space;
}

bool retention_above_high_water(const struct spool *spool)
{
    uint64_t disk = atomic_load(&spool->shared.disk);
    uint64_t limit = limit_of(spool);
    uint64_t room = space_in_hand(spool) + (disk < limit ? limit - disk : 0);

    return room < reserve_of(limit);
}

bool retention_below_low_water(const struct spool *spool)
{
    uint64_t disk = atomic_load(&spool->shared.disk);
    uint64_t not_unsent = space_in_hand(spool);
    uint64_t limit = limit_of(spool);

    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next) {
        if (retention_is_committed(spool, s))
            not_unsent += s->size;
    }
    uint64_t unsent = disk > not_unsent ? disk - not_unsent : 0;
    uint64_t retained = lower(spool->retain, retention_most(limit));
    return unsent <= (limit - reserve_of(limit) - retained) / 2;
}

/* The spare ------------------------------------------------------------------------------------------ */

static void have_spare(struct spool *spool, int fd)
{
    struct spool_reader *reader = &spool->reader;

    reader->spare_failed = false;
    log_fault_over(&reader->spare_fault, LOG_WITH(log_text("spool", spool->path)),
                   "The spool has its next segment");
    atomic_store(&spool->shared.spare, fd);
}

static void say_spare_failed(struct spool *spool, const struct error *err)
{
    spool->reader.spare_failed = true;
    spool->reader.spare_retry_ms = clock_monotonic_ms() + SPARE_RETRY_MS;
    log_fault(&spool->reader.spare_fault, LOG_LEVEL_ERROR, LOG_WITH(log_text("spool", spool->path)),
              "The disk has no room for the spool's next segment, which makes do with what it has: "
              "%s",
              err->text);
}

/* One that is retained now may be free before the writer is half through its segment. */
static bool one_may_come_free(const struct spool *spool)
{
    const struct segment *oldest = spool->reader.first;
    uint64_t tail = atomic_load(&spool->shared.tail);

    return oldest != NULL && oldest->size == spool->segment_size &&
           retention_is_committed(spool, oldest) && tail_offset(tail) < spool->segment_size / 2;
}

void retention_spare(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct error err;
    int fd;

    if (atomic_load(&spool->shared.spare) != SPARE_NONE)
        return;
    /* A writer that has found no room stands still, and would have us wait for ever. */
    if (!reader->spare_failed && one_may_come_free(spool))
        return;
    if (reader->spare_failed && clock_monotonic_ms() < reader->spare_retry_ms)
        return;
    uint64_t disk = atomic_fetch_add(&spool->shared.disk, spool->segment_size);
    if (disk + spool->segment_size > spool->size) {
        /* Used up as agreed, which the high-water mark sees to. */
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size);
        return;
    }
    if (segment_make(spool->dir, SEGMENT_SPARE, spool->segment_size, &fd, &err) < 0) {
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size);
        say_spare_failed(spool, &err);
        return;
    }
    have_spare(spool, fd);
}

/* The disk has no room for another file, and all that the last one holds is in Redis and remembered: the
 * writer may have its blocks for the next segment. When it is half used, or nobody writes to it. */
void retention_offer(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t tail = atomic_load(&spool->shared.tail);

    uint64_t offered = atomic_load(&spool->shared.offered);

    if (atomic_load(&spool->shared.segment_end) > 0 && tail_offset(tail) < spool->segment_size / 2)
        return;
    if (!reader->spare_failed || reader->last == NULL || reader->first != reader->last ||
        offered == OFFER_TAKEN || offered == tail || reader->committed.segment != reader->last ||
        tail_pack(reader->last->header.number, reader->committed.offset) != tail)
        return;
    retention_remember(spool, tail_number(tail));
    atomic_compare_exchange_strong(&spool->shared.offered, &offered, tail);
}

/* Freeing -------------------------------------------------------------------------------------------- */

/* A segment that nobody needs becomes the spare: its blocks are there. What it holds can't come alive
 * again, since the checksums begin with the number that it had. */
static bool recycle(struct spool *spool, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(segment->header.number, "segment", name);
    if (segment->size != spool->segment_size || segment->header.damaged ||
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
                    "The spool can't remove a segment: %s", strerror(errno));
}

/* Neither is synced: a segment that comes back after a power cut is one that was sent, and a recycled one
 * has its new name synced when that is promised. */
static void free_segment(struct spool *spool, struct segment *segment)
{
    if (!recycle(spool, segment)) {
        remove_segment(spool, segment);
        atomic_fetch_sub(&spool->shared.disk, segment->size);
    }
    segment_free(segment);
}

/* Nothing is retained where messages to come need the space: above high water, and where the disk has no room
 * for the next segment. Only they would move it on. */
bool retention_must_give_way(const struct spool *spool)
{
    bool no_next = spool->reader.spare_failed && atomic_load(&spool->shared.spare) == SPARE_NONE;

    return no_next || retention_above_high_water(spool);
}

static bool is_retained(const struct spool *spool, const struct segment *segment, size_t segments)
{
    int64_t kept =
        cursor_bytes(&spool->reader.committed) - (int64_t)segment->next->header.bytes_before;

    return kept < (int64_t)spool->retain && segments <= RETAINED_SEGMENTS_MAX &&
           !retention_must_give_way(spool);
}

void retention_release(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    size_t retained = 0;

    reader_skip_finished_segments(spool, &reader->committed);
    /* Nobody has anything to read behind it: so as not to hold on to the segment. */
    if (cursor_records(&reader->read) == cursor_records(&reader->committed))
        reader_skip_finished_segments(spool, &reader->read);
    for (const struct segment *s = reader->first; s != NULL && retention_is_committed(spool, s);
         s = s->next)
        retained++;
    while (reader->first != NULL && retention_is_committed(spool, reader->first)) {
        struct segment *oldest = reader->first;
        if (is_retained(spool, oldest, retained))
            break;
        if (reader->last->header.number > reader->remembered)
            retention_remember(spool, reader->last->header.number);
        reader->first = oldest->next;
        retained--;
        free_segment(spool, oldest);
        /* The disk may have room now: no more is to be freed than that takes. */
        if (reader->spare_failed) {
            reader->spare_retry_ms = 0;
            retention_spare(spool);
        }
    }
    if (cursor_bytes(&reader->committed) - reader->hinted_bytes >= HINT_BYTES)
        retention_hint(spool);
    retention_spare(spool);
}

/* Damage shows when it is read, and not all of it need have been read. */
static void find_damage(struct spool *spool)
{
    struct cursor cursor = cursor_at(spool->reader.first);
    struct record record;
    struct hole hole;
    enum step step;

    while ((step = reader_step(spool, &cursor, &record, &hole)) != STEP_END)
        if (step == STEP_HOLE)
            cursor.segment->header.damaged = true;
}

void spool_remove_segments(struct spool *spool)
{
    static const char *const NAMES[] = {SEGMENT_SPARE, SEGMENT_NEW, HINT_NAME, RECENT_NAME};

    if (spool->reader.first != NULL)
        find_damage(spool);
    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next)
        remove_segment(spool, s);
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        sys_unlinkat(spool->dir, NAMES[i]);
    spool->opened = false; /* nothing is to be written any more */
}

/* For the next start --------------------------------------------------------------------------------- */

static void sync_recent(const struct spool *spool)
{
    int fd = spool->reader.recent_fd;

    if (fd >= 0 && sys_fdatasync(fd) < 0)
        spool_die(spool, "fdatasync");
}

void retention_remember(struct spool *spool, uint64_t through)
{
    struct spool_reader *reader = &spool->reader;
    struct recent_origin origin;

    memcpy(origin.spool_id, spool->id, 16);
    memcpy(origin.boot_id, spool->boot_id, 16);
    recent_save(spool->recent, reader->recent_fd, &origin, through);
    reader->remembered = through;
    if (spool->sync == SPOOL_SYNC_ALWAYS)
        sync_recent(spool);
}

/* The last committed record, named as the mark in Redis names it; false if it is kept no more. */
static bool last_committed(const struct spool_reader *reader, struct mark *mark)
{
    uint64_t records = cursor_records(&reader->committed);
    const struct segment *found = NULL;

    for (const struct segment *s = reader->first; s != NULL && s->header.records_before < records;
         s = s->next)
        found = s;
    if (found == NULL)
        return false;
    mark->run = found->header.run;
    mark->sequence = found->header.first_sequence + records - found->header.records_before - 1;
    return true;
}

void retention_hint(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    char data[HINT_SIZE];
    struct mark mark;

    if (cursor_bytes(&reader->committed) == reader->hinted_bytes || !last_committed(reader, &mark))
        return;
    memcpy(data, hint_magic, sizeof(hint_magic));
    memcpy(data + 16, spool->id, 16);
    little_endian_put64(data + 32, mark.run);
    little_endian_put64(data + 40, mark.sequence);
    little_endian_put64(data + 8, crc32c(0, data + 16, HINT_SIZE - 16));
    /* Without it the next start only knows less until it has read the mark. */
    ssize_t written = pwrite(reader->hint_fd, data, sizeof(data), 0);
    if (written == (ssize_t)sizeof(data))
        reader->hinted_bytes = cursor_bytes(&reader->committed);
}

bool retention_read_hint(struct spool *spool, struct mark *mark)
{
    char data[HINT_SIZE];

    spool->reader.hint_fd = sys_openat(spool->dir, HINT_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (pread(spool->reader.hint_fd, data, sizeof(data), 0) != (ssize_t)sizeof(data) ||
        memcmp(data, hint_magic, sizeof(hint_magic)) != 0 ||
        memcmp(data + 16, spool->id, 16) != 0 ||
        little_endian_get64(data + 8) != crc32c(0, data + 16, HINT_SIZE - 16))
        return false;
    mark->run = little_endian_get64(data + 32);
    mark->sequence = little_endian_get64(data + 40);
    return true;
}

static void count_one(void *context, const char *name, const struct oversized_message *message)
{
    struct spool_reader *reader = context;

    (void)name;
    reader->oversized_messages++;
    reader->oversized_bytes += message->topic.len + message->payload.len;
}

void retention_count_oversized(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    int64_t now_ms = clock_monotonic_ms();

    if (!atomic_exchange(&spool->shared.oversized_changed, false) &&
        (reader->oversized_messages == 0 || now_ms < reader->oversized_count_ms))
        return;
    reader->oversized_messages = 0;
    reader->oversized_bytes = 0;
    reader->oversized_count_ms = now_ms + OVERSIZED_COUNT_MS;
    (void)oversized_file_list(spool->dir, count_one, reader, NULL);
}

static void sync_segment(struct spool *spool, uint64_t number)
{
    char name[SEGMENT_NAME_SIZE];

    segment_name(number, "segment", name);
    int fd = sys_openat(spool->dir, name, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 && errno == ENOENT)
        return; /* committed and gone since */
    if (fd < 0 || sys_fdatasync(fd) < 0)
        spool_die(spool, "fdatasync");
    close(fd);
}

void retention_sync(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));

    for (uint64_t i = reader->synced_number; i <= number; i++)
        sync_segment(spool, i);
    reader->synced_number = number;
    sync_recent(spool);
    if (atomic_exchange(&spool->shared.directory_changed, false) && sys_fsync(spool->dir) < 0)
        spool_die(spool, "fsync of the directory");
}
