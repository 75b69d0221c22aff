#include "consumer/spool/spool.h"

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "common/base/sys.h"
#include "common/client/oversized_file.h"
#include "consumer/spool/predecessor.h"
#include "consumer/spool/recovery.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define KILO ((uint64_t)1024)
#define MEGA (1024 * KILO)

#define SIZE_MIN         (1 * MEGA)
#define SEGMENT_SIZE_MIN (128 * KILO) /* takes the longest topic */
#define SEGMENT_SIZE_MAX (16 * MEGA)  /* unless the largest message needs more */

/* After a reboot, and when the end of the spool can't be read, Redis may know sequences that this disk
 * lost: they are not to be given again, or the new messages would pass for repeats. More than any kernel
 * keeps unwritten. */
#define REBOOT_SKIP UINT64_C(1000000000)

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static void set_sizes(struct spool *spool, const struct spool_options *options)
{
    uint64_t size = options->size > 0 ? (uint64_t)options->size : 0;
    uint64_t retain = options->retain > 0 ? (uint64_t)options->retain : 0;
    uint64_t largest = options->largest_message > 0 ? (uint64_t)options->largest_message : 0;

    spool->size = clamp(size, SIZE_MIN, UINT64_MAX);
    uint64_t least = clamp(spool->size / 16, SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX);
    uint64_t needed = SEGMENT_HEADER_SIZE + record_size_of(0, largest) + 4095;
    spool->segment_size = clamp(needed, least, spool->size / 8) & ~UINT64_C(4095);
    spool->retain = clamp(retain, 0, retention_most(spool->size));
}

void spool_die(const struct spool *spool, const char *what)
{
    log_critical(
        LOG_WITH(log_text("spool", spool->path)),
        "%s: %s. What the disk holds is not known any more: ending, to find out at the start", what,
        strerror(errno));
    _exit(1);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* All of the path that is missing, and synced: what is stored in it is promised. */
static int make_directories(const char *path, struct error *err)
{
    char *part = xstrdup(path);
    int above = open(*path == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *at = part, *rest = NULL;
    int failed = above < 0;

    for (at = strtok_r(at, "/", &rest); at != NULL && !failed; at = strtok_r(NULL, "/", &rest)) {
        bool made = mkdirat(above, at, 0700) == 0;
        failed = (!made && errno != EEXIST) || (made && sys_fsync(above) < 0);
        int next = failed ? -1 : openat(above, at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        failed = failed || next < 0;
        if (!failed) {
            close(above);
            above = next;
        }
    }
    int result = failed ? error_system(err, "making %s ([supervisor] state_dir)", path) : 0;
    close_if_open(above);
    free(part);
    return result;
}

static int open_directory(struct spool *spool, struct error *err)
{
    int result = make_directories(spool->path, err);

    if (result < 0)
        return result;
    spool->dir = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->dir < 0)
        return error_system(err, "opening %s", spool->path);
    if (flock(spool->dir, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return error_system(err, "locking %s", spool->path);
    return error_set(err, ERR_LOCKED,
                     "spool %s is in use by another process (a consumer with the same client id?)",
                     spool->path);
}

/* Zeros if it can't be told. */
static void read_boot_id(unsigned char id[16])
{
    char text[40] = "";
    size_t digits = 0;

    memset(id, 0, 16);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    for (ssize_t i = 0; i < len && digits < 32; i++) {
        int digit = bytes_hex_digit(text[i]);
        if (digit < 0)
            continue;
        id[digits / 2] = (unsigned char)(id[digits / 2] << 4 | digit);
        digits++;
    }
}

static bool rebooted_since(const struct spool *spool, const struct segment *last)
{
    static const unsigned char unknown[16];

    return memcmp(spool->boot_id, last->header.boot_id, 16) != 0 ||
           memcmp(spool->boot_id, unknown, 16) == 0;
}

/* Of the segments, if there are any: an orphaned spool stays whose it was. */
static void take_names_over(struct spool *spool, const struct segment_header *header)
{
    free(spool->client_id);
    free(spool->destination);
    spool->client_id = xstrdup(header->client_id);
    spool->destination = xstrdup(header->destination);
}

static void take_over(struct spool *spool, const struct recovered *recovered)
{
    struct spool_writer *writer = &spool->writer;
    const struct segment *last = recovered->last;

    memcpy(spool->id, recovered->spool_id, sizeof(spool->id));
    for (size_t i = 0; i < sizeof(spool->id); i++)
        snprintf(spool->id_text + 2 * i, 3, "%02x", spool->id[i]);
    spool->run = random_u64();
    spool->reader.first = recovered->first;
    spool->reader.last = recovered->last;
    spool->shared.records = recovered->records;
    spool->shared.bytes = recovered->bytes;
    spool->shared.disk = recovered->disk;
    spool->shared.last_sequence = recovered->next_sequence - 1;
    spool->shared.branch = recovered->branch;
    mark_write_id(spool);

    writer->next_number = recovered->next_number;
    writer->next_sequence = recovered->next_sequence;
    if (last == NULL)
        return;
    spool->shared.tail = tail_pack(last->header.number, recovered->tail_end);
    /* Even with no record left: headers may reach the disk when what follows them does not. */
    if (recovered->tail_lost || rebooted_since(spool, last))
        writer->next_sequence += REBOOT_SKIP;
    if (writer->next_sequence < recovered->sequence_floor)
        writer->next_sequence = recovered->sequence_floor;
    take_names_over(spool, &last->header);
}

static void skip_oversized(void *context, const char *name, const struct oversized_message *message)
{
    struct spool *spool = context;

    (void)name;
    if (spool->writer.next_sequence <= message->sequence)
        spool->writer.next_sequence = message->sequence + 1;
}

/* A file whose record was never written keeps its sequence: the message comes again under another one. */
static int take_oversized_over(struct spool *spool, struct error *err)
{
    int result = oversized_file_list(spool->dir, skip_oversized, spool, err);

    spool->shared.oversized_changed = true;
    retention_count_oversized(spool);
    return result < 0 ? result : 0;
}

static void take_spare_over(struct spool *spool, bool has_spare)
{
    if (!has_spare)
        return;
    int fd = sys_openat(spool->dir, SEGMENT_SPARE, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return;
    spool->shared.spare = fd;
    spool->shared.disk += spool->segment_size;
}

/* What may come again: the file, and the records of the segments that it does not cover. */
static void take_recent_over(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct recent_origin origin;
    struct buf data = {0};
    struct recover_scan scan;
    struct error err;

    memcpy(origin.spool_id, spool->id, 16);
    memcpy(origin.boot_id, spool->boot_id, 16);
    reader->recent_fd = sys_openat(spool->dir, RECENT_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    reader->remembered = recent_load(spool->recent, reader->recent_fd, &origin);
    if (reader->remembered == 0 && reader->first != NULL &&
        reader->first->header.records_before > 0 && !rebooted_since(spool, reader->last))
        log_notice(LOG_WITH(log_text("spool", spool->path)),
                   "The file " RECENT_NAME " is missing or damaged: what the broker sends again of "
                   "segments that are gone counts as new");
    for (const struct segment *s = reader->first; s != NULL; s = s->next) {
        if (s->header.number < reader->remembered ||
            segment_load(&data, spool->dir, s->header.number, s->size, &err) < 0)
            continue;
        recover_scan(&scan, buf_bytes(&data), SEGMENT_HEADER_SIZE, s->seed,
                     s->header.first_sequence, spool->recent);
        /* Version 1 has no RELEASE records. Its ids can't be told from those that are unreleased. */
        if (s->header.version == 1)
            recent_release_all(spool->recent);
    }
    buf_free(&data);
}

/* Starts that received nothing leave segments without a record, which recovery has cut to their headers. */
static void remove_empty(struct spool *spool)
{
    struct segment **link = &spool->reader.first;
    char name[SEGMENT_NAME_SIZE];

    while (*link != NULL && (*link)->next != NULL) {
        struct segment *segment = *link;
        if (segment->size > SEGMENT_HEADER_SIZE ||
            segment->next->header.records_before != segment->header.records_before) {
            link = &segment->next;
            continue;
        }
        segment_name(segment->header.number, "segment", name);
        sys_unlinkat(spool->dir, name);
        spool->shared.disk -= segment->size;
        *link = segment->next;
        segment_free(segment);
    }
}

static int begin_run(struct spool *spool, struct error *err)
{
    int result = writer_begin_segment(spool, false, err);

    if (result == 0) {
        spool->shared.tail = tail_pack(spool->writer.number, spool->writer.offset);
        reader_discover_segments(spool);
        remove_empty(spool);
        return 0;
    }
    if (result != -ERR_FULL || spool->reader.first == NULL)
        return result;
    log_error(LOG_WITH(log_text("spool", spool->path)),
              "The disk has no room for the spool, which can only send what it holds: %s",
              err->text);
    spool->reader.spare_failed = true;
    return 0;
}

static void find_position(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct cursor start = {0};
    struct mark mark;

    if (reader->first != NULL)
        start = cursor_at(reader->first);
    if (retention_read_hint(spool, &mark))
        mark_locate(spool, &mark, &start);
    reader_move(spool, &start);
    reader_skip_finished_segments(spool, &reader->read);
    reader_skip_finished_segments(spool, &reader->committed);
    reader->hinted_bytes = cursor_bytes(&reader->committed);
}

static void drain_event(const struct spool *spool)
{
    uint64_t count;
    ssize_t got = read(spool->event_fd, &count, sizeof(count));

    (void)got; /* nothing there is as good */
}

static int open_steps(struct spool *spool, const struct spool_options *options, struct error *err)
{
    struct recovered recovered;

    if (strlen(spool->client_id) > SEGMENT_TEXT_MAX ||
        strlen(spool->destination) > SEGMENT_TEXT_MAX)
        return error_set(err, ERR_USAGE, "client id or destination is longer than %d bytes",
                         SEGMENT_TEXT_MAX);
    int result = open_directory(spool, err);
    if (result < 0)
        return result;
    spool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (spool->event_fd < 0)
        return error_system(err, "eventfd");
    result = recover(&recovered, spool->dir, spool->path, spool->segment_size, err);
    if (result < 0)
        return result;
    take_over(spool, &recovered);
    /* What earlier processes wrote and had no time to sync is synced with ours. */
    spool->reader.synced_number = spool->reader.first != NULL ? spool->reader.first->header.number
                                                              : tail_number(spool->shared.tail);
    take_spare_over(spool, recovered.has_spare);
    result = take_oversized_over(spool, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    take_recent_over(spool);
    result = options->receives ? predecessor_take_over(spool, options, err) : 0;
    if (result > 0) /* it is newer than what the segments here say */
        retention_remember(spool, spool->writer.next_number);
    if (result >= 0)
        result = begin_run(spool, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    if (options->receives && spool->writer.fd >= 0)
        predecessor_note(options->dir);
    find_position(spool);
    retention_spare(spool);
    if (sys_fsync(spool->dir) < 0)
        return error_system(err, "fsync of %s", spool->path);
    drain_event(spool);
    spool->opened = true;
    return 0;
}

int spool_open(struct spool **out, const struct spool_options *options, struct error *err)
{
    struct spool *spool = aligned_alloc(64, (sizeof(struct spool) + 63) & ~(size_t)63);

    if (spool == NULL)
        abort();
    memset(spool, 0, sizeof(*spool));
    spool->path = xstrdup(options->dir);
    spool->client_id = xstrdup(options->client_id);
    spool->destination = xstrdup(options->destination);
    spool->sync = options->sync;
    set_sizes(spool, options);
    spool->dir = -1;
    spool->event_fd = -1;
    spool->writer.fd = -1;
    spool->reader.fd = -1;
    spool->reader.hint_fd = -1;
    spool->reader.recent_fd = -1;
    spool->recent = recent_new();
    spool->shared.spare = SPARE_NONE;
    read_boot_id(spool->boot_id);

    int result = open_steps(spool, options, err);
    if (result < 0) {
        spool_close(spool);
        spool = NULL;
    }
    *out = spool;
    return result;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    if (spool->opened) {
        retention_hint(spool);
        retention_remember(spool, spool->writer.next_number);
        if (spool->sync != SPOOL_SYNC_NONE)
            retention_sync(spool);
    }
    writer_close(spool);
    reader_close(spool);
    close_if_open(spool->reader.hint_fd);
    close_if_open(spool->reader.recent_fd);
    close_if_open(spool->shared.spare);
    close_if_open(spool->event_fd);
    close_if_open(spool->dir);
    recent_free(spool->recent);
    free(spool->path);
    free(spool->client_id);
    free(spool->destination);
    free(spool);
}

int spool_event_fd(const struct spool *spool)
{
    return spool->event_fd;
}

bool spool_arm_wakeup(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t position = 0;

    retention_spare(spool);
    retention_hint(spool);
    reader_skip_finished_segments(spool, &reader->read);
    if (reader->read.segment != NULL)
        position = tail_pack(reader->read.segment->header.number, reader->read.offset);
    /* In this order, as the writer has them the other way round: see publish. */
    atomic_store(&spool->shared.sleeping, true);
    if (atomic_load(&spool->shared.tail) == position)
        return true;
    atomic_store(&spool->shared.sleeping, false);
    return false;
}

void spool_disarm_wakeup(struct spool *spool)
{
    atomic_store(&spool->shared.sleeping, false);
    drain_event(spool);
    retention_spare(spool);
}

const char *spool_id(const struct spool *spool)
{
    return spool->id_text;
}

const char *spool_mark_id(const struct spool *spool)
{
    return spool->reader.mark_id;
}

const char *spool_destination(const struct spool *spool)
{
    return spool->destination;
}

int64_t spool_largest_message(const struct spool *spool)
{
    return (int64_t)(spool->segment_size - SEGMENT_HEADER_SIZE - record_size_of(0, 0) -
                     RECORD_ALIGNMENT);
}

uint64_t spool_run(const struct spool *spool)
{
    return spool->run;
}

void spool_state(const struct spool *spool, struct spool_state *state)
{
    const struct spool_reader *reader = &spool->reader;
    uint64_t records = atomic_load(&spool->shared.records);
    int64_t unsent = (int64_t)atomic_load(&spool->shared.bytes) - cursor_bytes(&reader->committed);
    uint64_t committed = cursor_records(&reader->committed);

    *state = (struct spool_state){
        .used_bytes = atomic_load(&spool->shared.disk),
        .unsent_bytes = unsent > 0 && records > committed ? (uint64_t)unsent : 0,
        .unsent_records = records > committed ? records - committed : 0,
        .limit_bytes = spool->size,
        .damaged_records = reader->damaged,
        .oversized_messages = reader->oversized_messages,
        .oversized_bytes = reader->oversized_bytes,
        .last_sequence = atomic_load(&spool->shared.last_sequence),
        .committed_sequence =
            reader->committed.segment != NULL ? reader->committed.sequence - 1 : 0,
    };
}

bool spool_above_high_water(struct spool *spool)
{
    uint64_t number = tail_number(atomic_load(&spool->shared.tail));

    retention_spare(spool);
    retention_count_oversized(spool);
    if (number > spool->reader.remembered)
        retention_remember(spool, number);
    /* Nothing more comes, and nothing is left to commit that would free anything. Not while something is
     * unsent, and not before Redis has said what it has: replay may need what is retained. */
    if (spool->reader.mark_read && retention_nothing_unsent(spool)) {
        if (retention_must_give_way(spool))
            retention_release(spool);
        retention_offer(spool);
    }
    return retention_above_high_water(spool);
}

bool spool_below_low_water(struct spool *spool)
{
    return !spool_above_high_water(spool) && retention_below_low_water(spool);
}

void spool_sync_interval(struct spool *spool)
{
    retention_spare(spool);
    retention_sync(spool);
}
