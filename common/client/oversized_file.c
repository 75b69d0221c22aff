#include "common/client/oversized_file.h"

#include "common/base/bytes.h"
#include "common/base/file.h"
#include "common/base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MAGIC = 0,
    CRC = 8, /* covers all bytes behind the field */
    FLAGS = 12,
    PACKET_ID = 14,
    SPOOL_ID = 16,
    SEQUENCE = 32,
    IDENTITY = 40,
    RECEIVED = 48,
    TOPIC_LEN = 56,
    PAYLOAD_LEN = 60,
    HEAD_SIZE = 64,
};

#define FLAG_QOS      0x03
#define FLAG_RETAINED 0x04
#define FLAG_REDIS    0x08
#define TOPIC_MAX     65535
#define NAME_SIZE     48
#define DIGITS        20
#define SUFFIX        ".oversized"
#define HALF          ".half" /* added while the file is written */

static const char magic[8] = "MQBLARGE";

static void name_of(uint64_t sequence, const char *behind, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%0*" PRIu64 SUFFIX "%s", DIGITS, sequence, behind);
}

static void encode_head(const struct oversized_message *message, char head[HEAD_SIZE])
{
    const struct record *record = &message->record;

    memcpy(head, magic, sizeof(magic));
    bytes_put16(head + FLAGS,
                (uint16_t)((record->qos & FLAG_QOS) | (record->retained ? FLAG_RETAINED : 0) |
                           (message->for_redis ? FLAG_REDIS : 0)));
    bytes_put16(head + PACKET_ID, record->packet_id);
    memcpy(head + SPOOL_ID, message->spool_id, 16);
    bytes_put64(head + SEQUENCE, record->sequence);
    bytes_put64(head + IDENTITY, record->identity);
    bytes_put64(head + RECEIVED, (uint64_t)record->received_us);
    bytes_put32(head + TOPIC_LEN, (uint32_t)record->topic.len);
    bytes_put32(head + PAYLOAD_LEN, (uint32_t)record->payload.len);
    uint32_t crc = bytes_crc32c(0, head + FLAGS, HEAD_SIZE - FLAGS);
    crc = bytes_crc32c(crc, record->topic.data, record->topic.len);
    bytes_put32(head + CRC, bytes_crc32c(crc, record->payload.data, record->payload.len));
}

/* Decodes the head. Returns false unless the lengths fit the file's size. */
static bool decode_head(struct oversized_message *message, const char head[HEAD_SIZE],
                        uint64_t size)
{
    uint16_t flags = bytes_get16(head + FLAGS);

    *message = (struct oversized_message){
        .record.sequence = bytes_get64(head + SEQUENCE),
        .record.identity = bytes_get64(head + IDENTITY),
        .record.received_us = (int64_t)bytes_get64(head + RECEIVED),
        .record.qos = flags & FLAG_QOS,
        .record.retained = (flags & FLAG_RETAINED) != 0,
        .for_redis = (flags & FLAG_REDIS) != 0,
        .record.packet_id = bytes_get16(head + PACKET_ID),
        .record.topic.len = bytes_get32(head + TOPIC_LEN),
        .record.payload.len = bytes_get32(head + PAYLOAD_LEN),
    };
    memcpy(message->spool_id, head + SPOOL_ID, 16);
    return memcmp(head, magic, sizeof(magic)) == 0 && message->record.topic.len <= TOPIC_MAX &&
           HEAD_SIZE + message->record.topic.len + message->record.payload.len == size;
}

static int write_all(int fd, const struct oversized_message *message)
{
    char head[HEAD_SIZE];
    const struct bytes parts[] = {
        {head, HEAD_SIZE}, message->record.topic, message->record.payload};
    off_t at = 0;

    encode_head(message, head);
    for (size_t i = 0; i < LENGTH_OF(parts); i++) {
        size_t done = 0;

        while (done < parts[i].len) {
            ssize_t written = sys_pwrite(fd, parts[i].data + done, parts[i].len - done, at);

            if (written == 0)
                errno = ENOSPC;
            if (written <= 0)
                return -1;
            done += (size_t)written;
            at += written;
        }
    }
    return 0;
}

int oversized_file_write(int dir, const struct oversized_message *message, bool sync,
                         struct error *err)
{
    char half[NAME_SIZE], name[NAME_SIZE];

    name_of(message->record.sequence, HALF, half);
    name_of(message->record.sequence, "", name);
    int fd = sys_openat(dir, half, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_system(err, "making %s", half);
    int result = write_all(fd, message);
    if (result == 0 && sync)
        result = sys_fdatasync(fd);
    if (result == 0)
        result = sys_renameat(dir, half, name);
    if (result == 0 && sync)
        result = sys_fsync(dir);
    if (result < 0) {
        result = error_system(err, "writing %s", name);
        sys_unlinkat(dir, half);
    }
    close(fd);
    return result;
}

static bool is_name(const char *text)
{
    return strspn(text, "0123456789") == DIGITS && strcmp(text + DIGITS, SUFFIX) == 0;
}

static void tell(int dir, const char *name, oversized_file_seen *seen, void *context)
{
    struct oversized_message message = {0};
    char head[HEAD_SIZE], topic[TOPIC_MAX];
    struct stat status;
    int fd = sys_openat(dir, name, O_RDONLY | O_CLOEXEC, 0);

    if (fd < 0)
        return; /* the file was removed meanwhile */
    uint64_t size = fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    if (sys_pread(fd, head, HEAD_SIZE, 0) != HEAD_SIZE || !decode_head(&message, head, size) ||
        sys_pread(fd, topic, message.record.topic.len, HEAD_SIZE) !=
            (ssize_t)message.record.topic.len)
        message = (struct oversized_message){.record.payload.len = size};
    message.record.topic.data = topic;
    seen(context, name, &message);
    close(fd);
}

int oversized_file_list(int dir, oversized_file_seen *seen, void *context, struct error *err)
{
    int fd = sys_openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int count = 0;

    if (listing == NULL) {
        int result = error_system(err, "reading the spool's directory");

        file_close(&fd);
        return result;
    }
    while ((entry = readdir(listing)) != NULL) {
        if (!is_name(entry->d_name))
            continue;
        if (seen != NULL)
            tell(dir, entry->d_name, seen, context);
        count++;
    }
    closedir(listing);
    return count;
}

static int load(int fd, struct buf *data, struct oversized_message *message)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -ERR_SYSTEM;
    buf_clear(data);
    char *into = buf_reserve(data, (size_t)status.st_size + 1);
    while (data->len < (size_t)status.st_size) {
        ssize_t got =
            sys_pread(fd, into + data->len, (size_t)status.st_size - data->len, (off_t)data->len);

        if (got <= 0)
            return got < 0 ? -ERR_SYSTEM : -ERR_FORMAT;
        data->len += (size_t)got;
    }
    if (data->len < HEAD_SIZE || !decode_head(message, data->data, data->len) ||
        bytes_get32(data->data + CRC) != bytes_crc32c(0, data->data + FLAGS, data->len - FLAGS))
        return -ERR_FORMAT;
    message->record.topic.data = data->data + HEAD_SIZE;
    message->record.payload.data = message->record.topic.data + message->record.topic.len;
    return 0;
}

int oversized_file_read(int dir, uint64_t sequence, struct oversized_message *message,
                        struct buf *data, struct error *err)
{
    char name[NAME_SIZE];

    name_of(sequence, "", name);
    int fd = sys_openat(dir, name, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "there is no %s", name);
    int result = fd < 0 ? -ERR_SYSTEM : load(fd, data, message);
    if (result == -ERR_SYSTEM)
        result = error_system(err, "reading %s", name);
    else if (result < 0)
        result = error_set(err, ERR_FORMAT, "%s is damaged", name);
    file_close(&fd);
    return result;
}

bool oversized_file_exists(int dir, uint64_t sequence)
{
    char name[NAME_SIZE];

    name_of(sequence, "", name);
    return faccessat(dir, name, F_OK, 0) == 0;
}

int oversized_file_remove(int dir, uint64_t sequence, struct error *err)
{
    char name[NAME_SIZE];

    name_of(sequence, "", name);
    if (sys_unlinkat(dir, name) == 0)
        return 0;
    if (errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "there is no %s", name);
    return error_system(err, "removing %s", name);
}
