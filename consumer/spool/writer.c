/* The receive thread's half of the spool: appends. See spool.h. */
#include "common/base/bytes.h"
#include "common/base/file.h"
#include "common/base/sys.h"
#include "common/client/oversized_file.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

/* Wakes main. A failed write is harmless: main looks at the tail before it sleeps, and from time
 * to time. */
static void wake_reader(struct spool *spool)
{
    uint64_t one = 1;
    ssize_t written = write(spool->event_fd, &one, sizeof(one));

    (void)written;
}

void writer_close(struct spool *spool)
{
    file_close(&spool->writer.fd);
    atomic_store(&spool->shared.segment_end, 0);
}

/* Finds or makes the file for the next segment. Returns the descriptor, and the name. */
static int find_file(struct spool *spool, char name[SEGMENT_NAME_SIZE], struct error *err)
{
    struct spool_shared *shared = &spool->shared;
    int fd = atomic_load(&shared->spare);
    int result;

    /* The file keeps the name `spare` until it is renamed: main makes no other one before. */
    if (fd >= 0) {
        memcpy(name, SEGMENT_SPARE, sizeof(SEGMENT_SPARE));
        return fd;
    }
    /* Main has not made a spare in time. */
    memcpy(name, SEGMENT_NEW, sizeof(SEGMENT_NEW));
    uint64_t disk = atomic_fetch_add(&shared->disk, spool->segment_size) + spool->segment_size;
    if (disk > spool->size)
        result = error_set(err, ERR_FULL, "all of its %" PRIu64 " bytes are used", spool->size);
    else
        result = segment_make(spool->dir, SEGMENT_NEW, spool->segment_size, &fd, err);
    if (result == 0)
        return fd;
    atomic_fetch_sub(&shared->disk, spool->segment_size);
    return result;
}

static int give_name(struct spool *spool, int fd, const char *from, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    char name[SEGMENT_NAME_SIZE];
    struct segment_header header = {
        .run = spool->run,
        .number = writer->next_number,
        .first_sequence = writer->next_sequence,
        .previous_sequence = writer->last_stored,
        .records_before = spool->shared.records,
        .bytes_before = spool->shared.bytes,
        .branch = spool->shared.branch,
    };

    snprintf(header.destination, sizeof(header.destination), "%s", spool->destination);
    memcpy(header.spool_id, spool->id, sizeof(header.spool_id));
    memcpy(header.boot_id, spool->boot_id, sizeof(header.boot_id));
    int result = segment_write_header(fd, &header, err);
    if (result < 0)
        return result;
    segment_name(header.number, SEGMENT_SUFFIX, name);
    if (sys_renameat(spool->dir, from, name) < 0)
        return error_system(err, "naming %s", name);
    return 0;
}

/* Syncs the directory under sync = always, where the acknowledgement promises the file's name.
 * Under interval main syncs the directory, so that no message waits. */
static void sync_name(struct spool *spool)
{
    if (spool->sync != SPOOL_SYNC_ALWAYS)
        atomic_store(&spool->shared.directory_changed, true);
    else if (sys_fsync(spool->dir) < 0)
        spool_die(spool, "fsync of the directory");
}

/* Makes the file `from` the next segment. */
static int begin_in(struct spool *spool, int fd, const char *from, struct error *err)
{
    struct spool_shared *shared = &spool->shared;
    struct spool_writer *writer = &spool->writer;
    int result = give_name(spool, fd, from, err);

    if (result < 0) {
        close(fd);
        sys_unlinkat(spool->dir, from);
        atomic_fetch_sub(&shared->disk, spool->segment_size);
        return result;
    }
    sync_name(spool);
    writer_close(spool);
    writer->fd = fd;
    writer->number = writer->next_number;
    writer->offset = SEGMENT_HEADER_SIZE;
    writer->seed = record_seed(spool->id, spool->run, writer->number);
    writer->next_number++;
    atomic_store(&shared->segment_end, spool->segment_size);
    atomic_store(&shared->tail, tail_pack(writer->number, writer->offset));
    return 0;
}

static int begin_segment(struct spool *spool, struct error *err)
{
    char name[SEGMENT_NAME_SIZE];
    int fd = find_file(spool, name, err);

    if (fd < 0)
        return fd;
    int result = begin_in(spool, fd, name, err);
    if (atomic_load(&spool->shared.spare) == fd)
        atomic_store(&spool->shared.spare, SPARE_NONE);
    wake_reader(spool); /* main makes the next spare */
    return result;
}

void writer_skip_to(struct spool *spool, uint64_t sequence)
{
    struct error err;

    pthread_mutex_lock(&spool->appending);
    spool->writer.next_sequence = MAX(spool->writer.next_sequence, sequence);
    /* Sequences have no gaps within a segment. */
    writer_close(spool);
    if (spool->receives && begin_segment(spool, &err) < 0)
        log_notice(LOG_WITH(log_text("spool", spool->path)),
                   "Spool: no segment to write to: %s; tried again with the next message",
                   err.text);
    pthread_mutex_unlock(&spool->appending);
}

int writer_reuse_segment(struct spool *spool, uint64_t number, struct error *err)
{
    char name[SEGMENT_NAME_SIZE];
    struct stat status;
    int fd = segment_file(spool->dir, number, O_RDWR);

    segment_name(number, SEGMENT_SUFFIX, name);
    /* An earlier process may have cut the segment to its records' length. */
    if (fd < 0 || fstat(fd, &status) < 0 ||
        ((uint64_t)status.st_size < spool->segment_size &&
         sys_allocate(fd, 0, (off_t)spool->segment_size) < 0)) {
        int result = error_system(err, "reserving space for %s", name);
        file_close(&fd);
        return result;
    }
    writer_close(spool);
    atomic_fetch_add(&spool->shared.disk, spool->segment_size);
    return begin_in(spool, fd, name, err);
}

/* Cuts off the bytes of a failed write, and leaves this segment: the next append begins another
 * one, or is refused. The reader never reads behind the tail. */
static void cut_back(struct spool *spool)
{
    struct spool_writer *writer = &spool->writer;

    if (sys_ftruncate(writer->fd, (off_t)writer->offset) == 0)
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size - writer->offset);
    writer_close(spool);
}

static int write_record(struct spool *spool, const struct record *record, uint64_t size,
                        struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    struct bytes parts[RECORD_PARTS];
    struct iovec vector[RECORD_PARTS];
    char head[RECORD_HEAD_SIZE];

    record_parts(record, writer->seed, head, parts);
    for (int i = 0; i < RECORD_PARTS; i++)
        vector[i] = (struct iovec){.iov_base = (void *)parts[i].data, .iov_len = parts[i].len};
    ssize_t written = sys_pwritev(writer->fd, vector, RECORD_PARTS, (off_t)writer->offset);
    if (written == (ssize_t)size)
        return 0;
    /* A short write means no more room, as on a copy-on-write disk in spite of allocated blocks. */
    int error = written < 0 ? errno : ENOSPC;
    cut_back(spool);
    errno = error;
    return error_system(err, "writing to %s", spool->path);
}

static void publish(struct spool *spool, const struct record *record, uint64_t size)
{
    struct spool_shared *shared = &spool->shared;
    struct spool_writer *writer = &spool->writer;
    uint64_t records = atomic_load_explicit(&shared->records, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&shared->bytes, memory_order_relaxed);

    writer->offset += size;
    if (record->type == RECORD_MESSAGE) {
        writer->next_sequence = record->sequence + 1;
        writer->last_stored = record->sequence;
        atomic_store_explicit(&shared->last_sequence, record->sequence, memory_order_relaxed);
        atomic_store_explicit(&shared->records, records + 1, memory_order_relaxed);
    }
    atomic_store_explicit(&shared->bytes, bytes + size, memory_order_relaxed);
    /* Sequentially consistent with the two accesses of spool_arm_wakeup: either main sees this
     * tail, or the writer sees main's flag. */
    atomic_store(&shared->tail, tail_pack(writer->number, writer->offset));
    if (atomic_load(&shared->sleeping) && atomic_exchange(&shared->sleeping, false))
        wake_reader(spool);
}

/* Makes sure that the segment has room for a record of that size, with writer.next_sequence as its sequence. */
static int make_room(struct spool *spool, uint64_t size, struct error *err)
{
    struct spool_writer *writer = &spool->writer;

    if (writer->fd >= 0 && writer->offset + size <= spool->segment_size)
        return 0;
    int result = begin_segment(spool, err);
    return result < 0 ? error_wrap(err, "spool %s", spool->path) : 0;
}

/* Appends the record, for which make_room has made room. */
static int append(struct spool *spool, struct record *record, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    uint64_t size = record_size(record);

    record->sequence = writer->next_sequence;
    int result = write_record(spool, record, size, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    if (spool->sync == SPOOL_SYNC_ALWAYS && sys_fdatasync(writer->fd) < 0)
        spool_die(spool, "fdatasync");
    /* After the write: a snapshot must not have a message that no segment has. Before the tail moves: main may save a
     * snapshot as soon as it sees the record. */
    recent_apply(spool->recent, record);
    publish(spool, record, size);
    return 0;
}

static int write_oversized(struct spool *spool, const struct record *message, bool for_redis,
                           struct error *err)
{
    struct oversized_message file = {.for_redis = for_redis, .record = *message};

    memcpy(file.spool_id, spool->id, sizeof(file.spool_id));
    int result = oversized_file_write(spool->dir, &file, spool->sync != SPOOL_SYNC_NONE, err);
    return result < 0 ? error_wrap(err, "spool %s", spool->path) : 0;
}

int spool_write_oversized(struct spool *spool, const struct record *message, struct error *err)
{
    if (oversized_file_exists(spool->dir, message->sequence))
        return 1;
    return write_oversized(spool, message, true, err);
}

static void identify(struct record *message, struct record *record, uint64_t sequence)
{
    uint64_t distance = message->identity != 0 ? sequence - message->identity : 0;

    record->repeats =
        distance <= UINT32_MAX ? (uint32_t)distance : 0; /* too far: it counts as new */
    message->sequence = sequence;
    message->identity = sequence - record->repeats;
}

/* Writes the oversized file before its record, which says that the file is there. */
static int write_file(struct spool *spool, const struct record *message, struct error *err)
{
    int result = write_oversized(spool, message, false, err);

    if (result == 0)
        log_warning(LOG_WITH(log_bytes("topic", message->topic),
                             log_number("bytes", (int64_t)message->payload.len)),
                    "A message is too large for a segment of the spool ([spool] size): it is kept "
                    "as a file, see mqtt-bridge spool");
    return result;
}

static void oversize(struct record *record, struct fingerprint print,
                     char body[RECORD_OVERSIZED_SIZE])
{
    bytes_put32(body, print.len);
    bytes_put32(body + 4, print.crc);
    record->oversized = true;
    record->payload = (struct bytes){body, RECORD_OVERSIZED_SIZE};
}

int spool_append(struct spool *spool, struct record *message, struct error *err)
{
    struct record record = *message;
    char body[RECORD_OVERSIZED_SIZE];

    if (message->topic.len > RECORD_TOPIC_MAX || message->payload.len > RECORD_BYTES_MAX)
        return error_set(err, ERR_TOO_LARGE, "longer than an MQTT packet can be");
    record.type = RECORD_MESSAGE;
    record.oversized = false;
    if (SEGMENT_HEADER_SIZE + record_size(&record) > spool->segment_size)
        oversize(&record, recent_fingerprint(message->topic, message->payload), body);
    pthread_mutex_lock(&spool->appending);
    int result = make_room(spool, record_size(&record), err);
    identify(message, &record, spool->writer.next_sequence);
    if (result == 0 && record.oversized)
        result = write_file(spool, message, err);
    if (result == 0)
        result = append(spool, &record, err);
    pthread_mutex_unlock(&spool->appending);
    message->run = spool->run;
    return result;
}

static int append_control(struct spool *spool, struct record *record, struct error *err)
{
    pthread_mutex_lock(&spool->appending);
    int result = make_room(spool, record_size(record), err);
    if (result == 0)
        result = append(spool, record, err);
    pthread_mutex_unlock(&spool->appending);
    return result;
}

bool spool_find_recent(const struct spool *spool, const struct record *message,
                       struct spool_recent *recent)
{
    struct fingerprint print;

    recent->identity = recent_get(spool->recent, message->packet_id, &print, &recent->unreleased);
    if (recent->identity == 0)
        return false;
    struct fingerprint found = recent_fingerprint(message->topic, message->payload);
    return print.len == found.len && print.crc == found.crc;
}

int spool_release(struct spool *spool, uint16_t packet_id, struct error *err)
{
    struct record record = {.type = RECORD_RELEASE, .packet_id = packet_id};
    struct fingerprint print;
    bool unreleased;

    recent_get(spool->recent, packet_id, &print, &unreleased);
    if (!unreleased)
        return 0;
    return append_control(spool, &record, err);
}

int spool_begin_session(struct spool *spool, struct error *err)
{
    struct record record = {.type = RECORD_NEW_SESSION};

    if (recent_is_empty(spool->recent))
        return 0;
    return append_control(spool, &record, err);
}

size_t spool_unreleased(const struct spool *spool, uint16_t *ids, size_t max)
{
    struct fingerprint print;
    size_t count = 0;
    bool unreleased;

    for (uint32_t id = 1; id <= UINT16_MAX && count < max; id++) {
        recent_get(spool->recent, (uint16_t)id, &print, &unreleased);
        if (unreleased)
            ids[count++] = (uint16_t)id;
    }
    return count;
}
