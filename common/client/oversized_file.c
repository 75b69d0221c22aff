#include "common/client/oversized_file.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"
#include "common/wire/crc32c.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC         "MQTTOVER"
#define VERSION       1
#define FLAG_RETAINED 1
#define FLAG_REDIS    2
#define NAME_SIZE     (OVERSIZED_ID_SIZE + sizeof(OVERSIZED_SUFFIX))
#define PAYLOAD_MAX   268435455 /* what an MQTT packet can hold */

/* The file's first bytes as they lie on the disk. */
struct head {
    char magic[8];
    uint32_t version;
    uint32_t crc;
    char spool_id[32];
    uint64_t sequence;
    uint64_t identity;
    uint64_t received_us;
    uint32_t payload_len;
    uint16_t topic_len;
    uint8_t qos;
    uint8_t flags;
};
_Static_assert(sizeof(struct head) == 80, "the layout has no padding");
#define CHECKED_FROM offsetof(struct head, spool_id)

void oversized_file_id(const struct oversized_file *file, char id[OVERSIZED_ID_SIZE])
{
    snprintf(id, OVERSIZED_ID_SIZE, "%s-%" PRIu64, file->spool_id, file->identity);
}

bool oversized_file_parse_name(const char *name, struct bytes *id)
{
    struct bytes whole = bytes_of(name), spool_id, identity;
    struct bytes suffix = BYTES(OVERSIZED_SUFFIX);
    uint64_t number;

    if (!bytes_ends_with(whole, suffix))
        return false;
    *id = bytes_slice(whole, 0, whole.len - suffix.len);
    if (!bytes_split(*id, '-', &spool_id, &identity) ||
        spool_id.len != OVERSIZED_SPOOL_ID_SIZE - 1 || !bytes_to_u64(identity, &number))
        return false;
    for (size_t i = 0; i < spool_id.len; i++)
        if (bytes_hex_digit(spool_id.data[i]) < 0)
            return false;
    return true;
}

static uint32_t checksum(const struct head *head, struct bytes topic, struct bytes payload)
{
    uint32_t crc = crc32c(0, (const char *)head + CHECKED_FROM, sizeof(*head) - CHECKED_FROM);

    crc = crc32c(crc, topic.data, topic.len);
    return crc32c(crc, payload.data, payload.len);
}

static void encode_head(struct head *head, const struct oversized_file *file)
{
    *head = (struct head){
        .version = htole32(VERSION),
        .sequence = htole64(file->sequence),
        .identity = htole64(file->identity),
        .received_us = htole64((uint64_t)file->received_us),
        .payload_len = htole32((uint32_t)file->payload.len),
        .topic_len = htole16((uint16_t)file->topic.len),
        .qos = (uint8_t)file->qos,
        .flags = (uint8_t)((file->retained ? FLAG_RETAINED : 0) |
                           (file->cause == OVERSIZED_FOR_REDIS ? FLAG_REDIS : 0)),
    };
    memcpy(head->magic, MAGIC, sizeof(head->magic));
    memcpy(head->spool_id, file->spool_id, sizeof(head->spool_id));
    head->crc = htole32(checksum(head, file->topic, file->payload));
}

/* Lengths alone are set of topic and payload. */
static bool decode_head(struct oversized_file *file, const struct head *head)
{
    if (memcmp(head->magic, MAGIC, sizeof(head->magic)) != 0 || le32toh(head->version) != VERSION ||
        le32toh(head->payload_len) > PAYLOAD_MAX)
        return false;
    *file = (struct oversized_file){
        .sequence = le64toh(head->sequence),
        .identity = le64toh(head->identity),
        .received_us = (int64_t)le64toh(head->received_us),
        .cause = (head->flags & FLAG_REDIS) != 0 ? OVERSIZED_FOR_REDIS : OVERSIZED_FOR_SEGMENT,
        .qos = head->qos,
        .retained = (head->flags & FLAG_RETAINED) != 0,
        .topic.len = le16toh(head->topic_len),
        .payload.len = le32toh(head->payload_len),
    };
    memcpy(file->spool_id, head->spool_id, sizeof(head->spool_id));
    return true;
}

static int write_all(int fd, struct bytes bytes, off_t offset)
{
    while (bytes.len > 0) {
        ssize_t wrote = sys_pwrite(fd, bytes.data, bytes.len, offset);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return -1;
        bytes = bytes_slice(bytes, (size_t)wrote, bytes.len);
        offset += wrote;
    }
    return 0;
}

static int write_parts(int fd, const struct oversized_file *file, bool sync)
{
    struct head head;
    off_t payload_at = (off_t)(sizeof(head) + file->topic.len);

    encode_head(&head, file);
    if (write_all(fd, (struct bytes){(const char *)&head, sizeof(head)}, 0) < 0 ||
        write_all(fd, file->topic, sizeof(head)) < 0 ||
        write_all(fd, file->payload, payload_at) < 0)
        return -1;
    return sync ? sys_fsync(fd) : 0;
}

int oversized_file_write(int dir, const struct oversized_file *file, bool sync, struct error *err)
{
    char id[OVERSIZED_ID_SIZE], name[NAME_SIZE];
    int fd = sys_openat(dir, OVERSIZED_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int result = fd < 0 ? -1 : write_parts(fd, file, sync);
    int fault = errno;

    oversized_file_id(file, id);
    snprintf(name, sizeof(name), "%s" OVERSIZED_SUFFIX, id);
    if (fd >= 0)
        close(fd);
    if (result == 0 &&
        (sys_renameat(dir, OVERSIZED_NEW, name) < 0 || (sync && sys_fsync(dir) < 0))) {
        result = -1;
        fault = errno;
    }
    if (result == 0)
        return 0;
    if (fd >= 0)
        sys_unlinkat(dir, OVERSIZED_NEW);
    if (fault == ENOSPC || fault == EDQUOT)
        return error_set(err, ERR_FULL, "%s: no room on the disk", name);
    errno = fault;
    return error_system(err, "%s", name);
}

static int open_file(int dir, const char *id, uint64_t *size, struct error *err)
{
    char name[NAME_SIZE];
    struct stat status;

    snprintf(name, sizeof(name), "%s" OVERSIZED_SUFFIX, id);
    int fd = sys_openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "%s: there is no such message", id);
    if (fd < 0 || fstat(fd, &status) < 0) {
        int result = error_system(err, "%s", name);

        if (fd >= 0)
            close(fd);
        return result;
    }
    *size = (uint64_t)status.st_size;
    return fd;
}

static bool read_all(int fd, void *to, size_t len, off_t offset)
{
    char *at = to;

    while (len > 0) {
        ssize_t got = sys_pread(fd, at, len, offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        offset += got;
        len -= (size_t)got;
    }
    return true;
}

static bool read_head(int fd, uint64_t size, struct head *head, struct oversized_file *file)
{
    return read_all(fd, head, sizeof(*head), 0) && decode_head(file, head) &&
           size == sizeof(*head) + file->topic.len + file->payload.len;
}

int oversized_file_read(int dir, const char *id, struct oversized_file *file, struct buf *bytes,
                        struct error *err)
{
    struct head head;
    uint64_t size = 0;
    int fd = open_file(dir, id, &size, err);

    buf_free(bytes);
    if (fd < 0)
        return fd;
    bool good = read_head(fd, size, &head, file);
    if (good) {
        bytes->len = file->topic.len + file->payload.len;
        bytes->data = xmalloc(bytes->len + 1);
        bytes->capacity = bytes->len + 1;
        good = read_all(fd, bytes->data, bytes->len, sizeof(head));
    }
    close(fd);
    if (good) {
        file->topic = bytes_slice(buf_bytes(bytes), 0, file->topic.len);
        file->payload = bytes_slice(buf_bytes(bytes), file->topic.len, file->payload.len);
        good = le32toh(head.crc) == checksum(&head, file->topic, file->payload);
    }
    if (!good)
        return error_set(err, ERR_FORMAT, "%s: damaged, or of a later version", id);
    return 0;
}

int oversized_file_remove(int dir, const char *id, struct error *err)
{
    char name[NAME_SIZE];

    snprintf(name, sizeof(name), "%s" OVERSIZED_SUFFIX, id);
    if (sys_unlinkat(dir, name) == 0)
        return 0;
    if (errno == ENOENT)
        return error_set(err, ERR_NOT_FOUND, "%s: there is no such message", id);
    return error_system(err, "%s", name);
}

/* One that goes while it is listed is none. */
static void add_entry(struct oversized_list *list, int dir, struct bytes id)
{
    struct oversized_entry entry = {0};
    struct head head;
    uint64_t size = 0;

    snprintf(entry.id, sizeof(entry.id), "%.*s", BYTES_ARG(id));
    int fd = open_file(dir, entry.id, &size, NULL);
    if (fd == -ERR_NOT_FOUND)
        return;
    entry.damaged = fd < 0 || !read_head(fd, size, &head, &entry.file);
    if (!entry.damaged) {
        char *topic = buf_reserve(&entry.topic, entry.file.topic.len + 1);

        entry.topic.len = entry.file.topic.len;
        entry.damaged = !read_all(fd, topic, entry.topic.len, sizeof(head));
        entry.file.topic = buf_bytes(&entry.topic);
    }
    if (entry.damaged)
        entry.file = (struct oversized_file){.payload.len = size};
    if (fd >= 0)
        close(fd);
    list->entries = xrealloc(list->entries, (list->len + 1) * sizeof(entry));
    list->entries[list->len++] = entry;
}

static int by_identity(const void *left, const void *right)
{
    const struct oversized_entry *a = left, *b = right;

    if (a->file.identity != b->file.identity)
        return a->file.identity < b->file.identity ? -1 : 1;
    return strcmp(a->id, b->id);
}

int oversized_list_read(struct oversized_list *list, int dir, struct error *err)
{
    int fd = sys_openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *file;
    struct bytes id;

    *list = (struct oversized_list){0};
    if (listing == NULL) {
        int result = error_system(err, "a spool's directory");

        if (fd >= 0)
            close(fd);
        return result;
    }
    while ((file = readdir(listing)) != NULL)
        if (oversized_file_parse_name(file->d_name, &id))
            add_entry(list, dir, id);
    closedir(listing);
    if (list->len > 0)
        qsort(list->entries, list->len, sizeof(*list->entries), by_identity);
    return 0;
}

void oversized_list_free(struct oversized_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        buf_free(&list->entries[i].topic);
    free(list->entries);
    *list = (struct oversized_list){0};
}
