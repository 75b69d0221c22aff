/* The receive thread's half: appends. See spool.h. */
#include "common/base/clock.h"
#include "common/base/little_endian.h"
#include "common/base/sys.h"
#include "common/client/oversized_file.h"
#include "consumer/spool/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Failure of the write can be forgotten: main looks at the tail before it sleeps, and by the clock. */
static void wake_reader(struct spool *spool)
{
    uint64_t one = 1;
    ssize_t written = write(spool->event_fd, &one, sizeof(one));

    (void)written;
}

/* A new segment ------------------------------------------------------------------------------------ */

/* The blocks of the last segment, all of which is in Redis: the disk has no others. */
static int take_offered(struct spool *spool, char name[SEGMENT_NAME_SIZE])
{
    struct spool_shared *shared = &spool->shared;
    uint64_t tail = atomic_load(&shared->tail);
    uint64_t expected = tail;

    if (!atomic_compare_exchange_strong(&shared->offered, &expected, OFFER_TAKEN))
        return -1;
    segment_name(tail_number(tail), "segment", name);
    int fd = sys_openat(spool->dir, name, O_RDWR | O_CLOEXEC, 0);
    /* One of a former process was cut to what it holds. */
    if (fd >= 0 && (atomic_load(&shared->segment_end) > 0 ||
                    sys_allocate(fd, 0, (off_t)spool->segment_size) == 0)) {
        atomic_fetch_add(&shared->disk, spool->segment_size);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    atomic_store(&shared->offered, OFFER_NONE);
    return -1;
}

/* The descriptor of a file to be the segment, and the file's name. */
static int find_file(struct spool *spool, bool within_limit, char name[SEGMENT_NAME_SIZE],
                     struct error *err)
{
    struct spool_shared *shared = &spool->shared;
    int fd = atomic_load(&shared->spare);
    int result;

    /* Only the writer takes it away, so there is nobody to race with. */
    if (fd >= 0) {
        atomic_store(&shared->spare, SPARE_TAKEN);
        memcpy(name, SEGMENT_SPARE, sizeof(SEGMENT_SPARE));
        return fd;
    }
    /* Main had no time to make it. */
    memcpy(name, SEGMENT_NEW, sizeof(SEGMENT_NEW));
    uint64_t disk = atomic_fetch_add(&shared->disk, spool->segment_size) + spool->segment_size;
    if (within_limit && disk > spool->size)
        result = error_set(err, ERR_FULL, "all of its %" PRIu64 " bytes are used", spool->size);
    else
        result = segment_make(spool->dir, SEGMENT_NEW, spool->segment_size, &fd, err);
    if (result == 0)
        return fd;
    atomic_fetch_sub(&shared->disk, spool->segment_size);
    fd = result == -ERR_FULL ? take_offered(spool, name) : -1;
    return fd >= 0 ? fd : result;
}

static int give_name(struct spool *spool, int fd, const char *from, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    char name[SEGMENT_NAME_SIZE];
    struct segment_header header = {
        .run = spool->run,
        .number = writer->next_number,
        .first_sequence = writer->next_sequence,
        .previous_sequence = spool->shared.last_sequence,
        .records_before = spool->shared.records,
        .bytes_before = spool->shared.bytes,
        .created_us = clock_wall_us(),
        .branch = spool->shared.branch,
        .client_id = spool->client_id,
        .destination = spool->destination,
    };

    memcpy(header.spool_id, spool->id, sizeof(header.spool_id));
    memcpy(header.boot_id, spool->boot_id, sizeof(header.boot_id));
    int result = segment_write_header(fd, &header, err);
    if (result < 0)
        return result;
    segment_name(header.number, "segment", name);
    if (sys_renameat(spool->dir, from, name) < 0)
        return segment_system_error(err, "naming", name);
    return 0;
}

/* Under sync = always the file's name is part of what the acknowledgement promises. Under interval main
 * syncs the directory, so that no message waits for it. */
static void sync_name(struct spool *spool)
{
    if (spool->sync != SPOOL_SYNC_ALWAYS)
        atomic_store(&spool->shared.directory_changed, true);
    else if (sys_fsync(spool->dir) < 0)
        spool_die(spool, "fsync of the directory");
}

int writer_begin_segment(struct spool *spool, bool within_limit, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    char name[SEGMENT_NAME_SIZE];
    int fd = find_file(spool, within_limit, name, err);

    if (fd < 0)
        return fd;
    int result = give_name(spool, fd, name, err);
    if (result < 0) {
        close(fd);
        sys_unlinkat(spool->dir, name);
        atomic_fetch_sub(&spool->shared.disk, spool->segment_size);
    }
    if (atomic_load(&spool->shared.spare) == SPARE_TAKEN)
        atomic_store(&spool->shared.spare, SPARE_NONE);
    bool taken = atomic_load(&spool->shared.offered) == OFFER_TAKEN;
    if (result < 0) {
        if (taken) {
            writer_close(spool); /* that file is gone */
            atomic_store(&spool->shared.offered, OFFER_NONE);
        }
        return result;
    }

    sync_name(spool);
    writer_close(spool);
    writer->fd = fd;
    writer->number = writer->next_number;
    writer->offset = SEGMENT_HEADER_SIZE;
    writer->seed = record_seed(spool->id, spool->run, writer->number);
    writer->next_number++;
    atomic_store(&spool->shared.segment_end, spool->segment_size);
    if (taken) /* main may be waiting to know that the former segment is gone */
        atomic_store(&spool->shared.tail, tail_pack(writer->number, writer->offset));
    wake_reader(spool); /* to make the next spare */
    return 0;
}

void writer_close(struct spool *spool)
{
    if (spool->writer.fd >= 0)
        close(spool->writer.fd);
    spool->writer.fd = -1;
    atomic_store(&spool->shared.segment_end, 0);
}

/* Records ------------------------------------------------------------------------------------------ */

/* Takes back what a failed write left, and leaves this segment: a next append gets space of its own or
 * is refused. The reader is not touched: it never looks behind the tail. */
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
    struct iovec parts[RECORD_PARTS];
    char head[RECORD_HEAD_SIZE];

    record_parts(record, writer->seed, head, parts);
    ssize_t written = sys_pwritev(writer->fd, parts, RECORD_PARTS, (off_t)writer->offset);
    if (written == (ssize_t)size)
        return 0;
    /* Short means that there is no more room, in spite of the reservation: a copy-on-write disk. */
    int error = written < 0 ? errno : ENOSPC;
    cut_back(spool);
    errno = error;
    return segment_system_error(err, "writing to", spool->path);
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
        atomic_store_explicit(&shared->last_sequence, record->sequence, memory_order_relaxed);
        atomic_store_explicit(&shared->records, records + 1, memory_order_relaxed);
    }
    atomic_store_explicit(&shared->bytes, bytes + size, memory_order_relaxed);
    /* In one total order with spool_arm_wakeup's two: either it sees this tail, or we see its flag. */
    atomic_store(&shared->tail, tail_pack(writer->number, writer->offset));
    if (atomic_load(&shared->sleeping) && atomic_exchange(&shared->sleeping, false))
        wake_reader(spool);
}

/* There is room for a record of that size, and writer.next_sequence is its sequence. */
static int make_room(struct spool *spool, uint64_t size, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    uint64_t floor = atomic_load_explicit(&spool->shared.sequence_floor, memory_order_relaxed);
    bool raised = floor > writer->next_sequence;

    /* Sequences have no gaps within a segment, so a raised one begins the next. */
    if (raised) {
        writer->next_sequence = floor;
        writer_close(spool);
    }
    bool fits = writer->fd >= 0 && writer->offset + size <= spool->segment_size;
    uint64_t tail = tail_pack(writer->number, writer->offset);
    if (fits && atomic_load_explicit(&spool->shared.offered, memory_order_relaxed) != tail)
        return 0;
    int result = writer_begin_segment(spool, true, err);
    if (result < 0 && (!fits || writer->fd < 0))
        return error_wrap(err, "spool %s", spool->path);
    return 0;
}

/* In the room that was made for it. */
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
    publish(spool, record, size);
    return 0;
}

static int write_oversized(struct spool *spool, const struct spool_message *message, bool for_redis,
                           struct error *err)
{
    struct oversized_message file = {
        .sequence = message->sequence,
        .identity = message->identity,
        .received_us = message->received_us,
        .qos = message->qos,
        .retained = message->retained,
        .for_redis = for_redis,
        .packet_id = message->packet_id,
        .topic = message->topic,
        .payload = message->payload,
    };

    memcpy(file.spool_id, spool->id, sizeof(file.spool_id));
    int result = oversized_file_write(spool->dir, &file, spool->sync != SPOOL_SYNC_NONE, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    atomic_store(&spool->shared.oversized_changed, true);
    return 0;
}

int spool_write_oversized(struct spool *spool, const struct spool_message *message,
                          struct error *err)
{
    if (oversized_file_exists(spool->dir, message->sequence))
        return 1;
    return write_oversized(spool, message, true, err);
}

static void identify(struct spool_message *message, struct record *record, uint64_t sequence)
{
    uint64_t distance = message->identity != 0 ? sequence - message->identity : 0;

    if (distance <= UINT32_MAX) /* else it counts as new */
        record->repeats = (uint32_t)distance;
    message->sequence = sequence;
    message->identity = sequence - record->repeats;
}

/* The file first: the record, which stands for it, says that it is there. */
static int write_file(struct spool *spool, const struct spool_message *message, struct error *err)
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
    little_endian_put32(body, print.len);
    little_endian_put32(body + 4, print.crc);
    record->oversized = true;
    record->payload = (struct bytes){body, RECORD_OVERSIZED_SIZE};
}

int spool_append(struct spool *spool, struct spool_message *message, struct error *err)
{
    struct record record = {
        .type = RECORD_MESSAGE,
        .received_us = message->received_us,
        .qos = message->qos,
        .retained = message->retained,
        .packet_id = message->packet_id,
        .topic = message->topic,
        .payload = message->payload,
    };
    struct fingerprint print = {0};
    char body[RECORD_OVERSIZED_SIZE];

    if (message->topic.len > RECORD_TOPIC_MAX || message->payload.len > RECORD_BYTES_MAX)
        return error_set(err, ERR_TOO_LARGE, "longer than an MQTT packet can be");
    bool fits = SEGMENT_HEADER_SIZE + record_size(&record) <= spool->segment_size;
    if (message->qos > 0 || !fits)
        print = fingerprint_of(message->topic, message->payload);
    if (!fits)
        oversize(&record, print, body);
    int result = make_room(spool, record_size(&record), err);
    if (result < 0)
        return result;
    identify(message, &record, spool->writer.next_sequence);
    /* Before the record is published: whoever sees it may save what is remembered. A failed append ends the
     * process, and the message comes again. */
    if (message->qos > 0)
        recent_put(spool->recent, message->packet_id, message->identity, print, message->qos == 2);
    if (!fits)
        result = write_file(spool, message, err);
    if (result == 0)
        result = append(spool, &record, err);
    message->run = spool->run;
    return result;
}

static int append_control(struct spool *spool, struct record *record, struct error *err)
{
    int result = make_room(spool, record_size(record), err);

    return result < 0 ? result : append(spool, record, err);
}

/* What may come again ------------------------------------------------------------------------------ */

bool spool_find_recent(const struct spool *spool, const struct spool_message *message,
                       struct spool_recent *recent)
{
    struct fingerprint print;

    recent->identity = recent_get(spool->recent, message->packet_id, &print, &recent->unreleased);
    if (recent->identity == 0)
        return false;
    struct fingerprint found = fingerprint_of(message->topic, message->payload);
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
    int result = append_control(spool, &record, err);
    if (result == 0)
        recent_release(spool->recent, packet_id);
    return result;
}

int spool_begin_session(struct spool *spool, struct error *err)
{
    struct record record = {.type = RECORD_NEW_SESSION};

    if (recent_is_empty(spool->recent))
        return 0;
    int result = append_control(spool, &record, err);
    if (result == 0)
        recent_forget(spool->recent);
    return result;
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
