/* The receive thread's half: appends. See spool.h. */
#include "common/base/clock.h"
#include "common/base/sys.h"
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

/* A file of that size, by itself: main had no time to make the spare, or a record needs more. */
static int make_file(struct spool *spool, uint64_t size, bool within_limit, struct error *err)
{
    struct spool_shared *shared = &spool->shared;
    int fd = -1;

    uint64_t disk = atomic_fetch_add(&shared->disk, size) + size;
    int result = 0;
    if (within_limit && disk > spool->size)
        result = error_set(err, ERR_FULL, "all of its %" PRIu64 " bytes are used", spool->size);
    else
        result = segment_make(spool->dir, SEGMENT_NEW, size, &fd, err);
    if (result == 0)
        return fd;
    atomic_fetch_sub(&shared->disk, size);
    return result;
}

static int take_spare(struct spool *spool)
{
    int fd = atomic_load(&spool->shared.spare);

    /* Only the writer takes it away, so there is nobody to race with. */
    if (fd >= 0)
        atomic_store(&spool->shared.spare, SPARE_TAKEN);
    return fd;
}

static int give_name(struct spool *spool, int fd, const char *from, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    char name[SEGMENT_NAME_SIZE];
    struct segment_header header = {
        .run = spool->run,
        .number = writer->next_number,
        .first_sequence = writer->next_sequence,
        .records_before = spool->shared.records,
        .bytes_before = spool->shared.bytes,
        .destination_since = writer->destination_since,
        .created_us = clock_wall_us(),
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

/* Under sync = always the file's name is part of what the acknowledgement promises. Else main syncs the
 * directory, so that no message waits for it. */
static void sync_name(struct spool *spool)
{
    if (spool->sync != SPOOL_SYNC_ALWAYS) {
        atomic_store(&spool->shared.directory_changed, true);
        return;
    }
    if (sys_fsync(spool->dir) < 0)
        spool_die(spool, "fsync of the directory");
}

int writer_begin_segment(struct spool *spool, uint64_t record_size, bool within_limit,
                         struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    uint64_t size = wanted_segment_size(spool, record_size);
    int fd = -1;

    if (size == spool->segment_size)
        fd = take_spare(spool);
    bool spare = fd >= 0;
    if (!spare)
        fd = make_file(spool, size, within_limit, err);
    if (fd < 0)
        return fd;

    const char *name = spare ? SEGMENT_SPARE : SEGMENT_NEW;
    int result = give_name(spool, fd, name, err);
    if (result < 0) {
        close(fd);
        sys_unlinkat(spool->dir, name);
        atomic_fetch_sub(&spool->shared.disk, size);
    }
    if (spare)
        atomic_store(&spool->shared.spare, SPARE_NONE);
    if (result < 0)
        return result;

    sync_name(spool);
    writer_close(spool);
    writer->fd = fd;
    writer->number = writer->next_number;
    writer->size = size;
    writer->offset = SEGMENT_HEADER_SIZE;
    writer->seed = record_seed(spool->id, spool->run, writer->number);
    writer->next_number++;
    wake_reader(spool); /* to make the next spare */
    return 0;
}

void writer_close(struct spool *spool)
{
    if (spool->writer.fd >= 0)
        close(spool->writer.fd);
    spool->writer.fd = -1;
}

/* Takes back what a failed write left, and leaves this segment: a next append gets space of its own or
 * is refused. The reader is not touched: it never looks behind the tail. */
static void cut_back(struct spool *spool)
{
    struct spool_writer *writer = &spool->writer;

    if (sys_ftruncate(writer->fd, (off_t)writer->offset) == 0)
        atomic_fetch_sub(&spool->shared.disk, writer->size - writer->offset);
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

static void publish(struct spool *spool, uint64_t sequence, uint64_t size)
{
    struct spool_shared *shared = &spool->shared;
    struct spool_writer *writer = &spool->writer;
    uint64_t records = atomic_load_explicit(&shared->records, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&shared->bytes, memory_order_relaxed);

    writer->offset += size;
    writer->next_sequence = sequence + 1;
    atomic_store_explicit(&shared->last_sequence, sequence, memory_order_relaxed);
    atomic_store_explicit(&shared->records, records + 1, memory_order_relaxed);
    atomic_store_explicit(&shared->bytes, bytes + size, memory_order_relaxed);
    /* In one total order with spool_arm_wakeup's two: either it sees this tail, or we see its flag. */
    atomic_store(&shared->tail, tail_pack(writer->number, writer->offset));
    if (atomic_load(&shared->sleeping) && atomic_exchange(&shared->sleeping, false))
        wake_reader(spool);
}

static int check_lengths(const struct spool *spool, const struct record *record, uint64_t size,
                         struct error *err)
{
    if (record->topic.len > RECORD_TOPIC_MAX || record->payload.len > RECORD_BYTES_MAX ||
        record->properties.len > RECORD_BYTES_MAX)
        return error_set(err, ERR_TOO_LARGE, "longer than an MQTT packet can be");
    uint64_t segment_size = wanted_segment_size(spool, size);
    if (segment_size > spool->segment_size && segment_size > wanted_most(spool))
        return error_set(err, ERR_TOO_LARGE,
                         "%" PRIu64 " bytes, more than the spool can take in one message (%" PRIu64
                         ")",
                         size, wanted_most(spool) - SEGMENT_HEADER_SIZE);
    return 0;
}

int writer_append(struct spool *spool, struct record *record, uint64_t repeated, struct error *err)
{
    struct spool_writer *writer = &spool->writer;
    uint64_t size = record_size(record);
    uint64_t floor = atomic_load_explicit(&spool->shared.sequence_floor, memory_order_relaxed);
    bool raised = floor > writer->next_sequence;

    int result = check_lengths(spool, record, size, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    /* Sequences have no gaps within a segment, so a raised one begins the next. */
    if (raised)
        writer->next_sequence = floor;
    if (raised || writer->fd < 0 || writer->offset + size > writer->size) {
        result = writer_begin_segment(spool, size, true, err);
        if (result < 0) {
            if (raised)
                writer_close(spool);
            /* Smaller ones find room below high water. */
            if (result == -ERR_FULL && wanted_segment_size(spool, size) > spool->segment_size)
                wanted_write(spool, wanted_segment_size(spool, size));
            return error_wrap(err, "spool %s", spool->path);
        }
    }

    record->sequence = writer->next_sequence;
    /* Too far back: it counts as new. */
    if (repeated > 0 && record->sequence - repeated <= UINT16_MAX)
        record->repeats = (uint16_t)(record->sequence - repeated);
    result = write_record(spool, record, size, err);
    if (result < 0)
        return result;
    if (spool->sync == SPOOL_SYNC_ALWAYS && sys_fdatasync(writer->fd) < 0)
        spool_die(spool, "fdatasync");
    publish(spool, record->sequence, size);
    return 0;
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
        .properties = message->properties,
    };

    int result = writer_append(spool, &record, message->identity, err);
    if (result == 0) {
        message->sequence = record.sequence;
        message->identity = record.sequence - record.repeats;
        message->run = spool->run;
    }
    return result;
}
