#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/bytes.h"
#include "common/base/file.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Offsets in the file, which has one slot of two numbers for each packet id from 0 on. */
enum {
    RECENT_MAGIC = 0,
    RECENT_CRC = 8, /* covers all bytes behind the field */
    RECENT_SPOOL_ID = 16,
    RECENT_BOOT_ID = 32,
    RECENT_THROUGH = 48,
    RECENT_NEXT_SEQUENCE = 56,
    RECENT_BRANCH = 64,
    RECENT_USED = 72, /* number of slots */
    RECENT_SLOTS = 80,
};
#define PACKET_IDS 65536
#define SLOT_SIZE  ((size_t)16)
static const char recent_magic[8] = "MQBSEEN3";

struct slot {
    _Atomic uint64_t identity; /* twice the identity, plus one if unreleased; 0: none */
    _Atomic uint64_t print;    /* length and CRC */
};

struct recent {
    struct slot *slots;
    _Atomic uint32_t used; /* slots from this number on were never put */
};

struct fingerprint recent_fingerprint(struct bytes topic, struct bytes payload)
{
    uint32_t crc = bytes_crc32c((uint32_t)topic.len, topic.data, topic.len);

    return (struct fingerprint){.len = (uint32_t)(topic.len + payload.len),
                                .crc = bytes_crc32c(crc, payload.data, payload.len)};
}

struct recent *recent_new(void)
{
    struct recent *made = xcalloc(1, sizeof(*made));

    made->slots = xcalloc(PACKET_IDS, sizeof(*made->slots)); /* untouched pages cost nothing */
    return made;
}

void recent_free(struct recent *recent)
{
    if (recent == NULL)
        return;
    free(recent->slots);
    free(recent);
}

static uint64_t word_get(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void word_set(_Atomic uint64_t *value, uint64_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}

uint64_t recent_get(const struct recent *recent, uint16_t packet_id, struct fingerprint *print,
                    bool *unreleased)
{
    const struct slot *slot = &recent->slots[packet_id];
    uint64_t identity = word_get(&slot->identity), packed = word_get(&slot->print);

    *print = (struct fingerprint){(uint32_t)(packed >> 32), (uint32_t)packed};
    *unreleased = (identity & 1) != 0;
    return identity >> 1;
}

static void set(struct recent *recent, size_t packet_id, uint64_t identity, uint64_t print)
{
    struct slot *slot = &recent->slots[packet_id];

    word_set(&slot->identity, identity);
    word_set(&slot->print, print);
    if (packet_id >= atomic_load_explicit(&recent->used, memory_order_relaxed))
        atomic_store_explicit(&recent->used, (uint32_t)packet_id + 1, memory_order_release);
}

static void release(struct recent *recent, uint16_t packet_id)
{
    struct slot *slot = &recent->slots[packet_id];

    word_set(&slot->identity, word_get(&slot->identity) & ~UINT64_C(1));
}

void recent_release_all(struct recent *recent)
{
    for (uint32_t id = 0; id < recent->used; id++)
        release(recent, (uint16_t)id);
}

void recent_release_above(struct recent *recent, uint64_t sequence)
{
    for (uint32_t id = 0; id < recent->used; id++)
        if (word_get(&recent->slots[id].identity) >> 1 > sequence)
            release(recent, (uint16_t)id);
}

void recent_forget(struct recent *recent)
{
    for (uint32_t id = 0; id < recent->used; id++)
        word_set(&recent->slots[id].identity, 0);
}

void recent_merge(struct recent *recent, const struct recent *from)
{
    for (uint32_t id = 0; id < from->used; id++)
        if (word_get(&from->slots[id].identity) != 0)
            set(recent, id, word_get(&from->slots[id].identity), word_get(&from->slots[id].print));
}

bool recent_is_empty(const struct recent *recent)
{
    for (uint32_t id = 0; id < recent->used; id++)
        if (word_get(&recent->slots[id].identity) != 0)
            return false;
    return true;
}

void recent_apply(struct recent *recent, const struct record *record)
{
    struct fingerprint print;

    switch (record->type) {
    case RECORD_MESSAGE:
        if (record->qos == 0)
            break;
        print = recent_fingerprint(record->topic, record->payload);
        if (record->oversized)
            print = (struct fingerprint){bytes_get32(record->payload.data),
                                         bytes_get32(record->payload.data + 4)};
        set(recent, record->packet_id,
            (record->sequence - record->repeats) << 1 | (record->qos == 2),
            (uint64_t)print.len << 32 | print.crc);
        break;
    case RECORD_RELEASE:
        release(recent, record->packet_id);
        break;
    case RECORD_NEW_SESSION:
        recent_forget(recent);
        break;
    default: /* types of a later version */
        break;
    }
}

static bool is_whole(struct bytes file)
{
    return file.len >= RECENT_SLOTS && memcmp(file.data, recent_magic, sizeof(recent_magic)) == 0 &&
           file.len == RECENT_SLOTS + bytes_get64(file.data + RECENT_USED) * SLOT_SIZE &&
           bytes_get64(file.data + RECENT_CRC) ==
               bytes_crc32c(0, file.data + RECENT_SPOOL_ID, file.len - RECENT_SPOOL_ID);
}

bool recent_load(struct recent *recent, int dir, struct recent_start *start)
{
    size_t most = RECENT_SLOTS + PACKET_IDS * SLOT_SIZE;
    struct buf file = {0};
    int fd = sys_openat(dir, RECENT_NAME, O_RDONLY | O_CLOEXEC, 0);
    char *data = buf_reserve(&file, most);
    ssize_t len = fd >= 0 ? sys_pread(fd, data, most, 0) : 0;
    bool whole = len > 0 && is_whole((struct bytes){data, (size_t)len});

    file_close(&fd);
    if (whole) {
        memcpy(start->spool_id, data + RECENT_SPOOL_ID, sizeof(start->spool_id));
        memcpy(start->boot_id, data + RECENT_BOOT_ID, sizeof(start->boot_id));
        start->through = bytes_get64(data + RECENT_THROUGH);
        start->next_sequence = bytes_get64(data + RECENT_NEXT_SEQUENCE);
        start->branch = bytes_get64(data + RECENT_BRANCH);
        for (size_t i = 0; i < bytes_get64(data + RECENT_USED); i++)
            set(recent, i, bytes_get64(data + RECENT_SLOTS + i * SLOT_SIZE),
                bytes_get64(data + RECENT_SLOTS + i * SLOT_SIZE + 8));
    }
    buf_free(&file);
    return whole;
}

int recent_save(const struct recent *recent, int dir, const struct recent_start *start, bool sync)
{
    uint32_t used = atomic_load_explicit(&recent->used, memory_order_acquire);
    struct buf file = {.len = 0};
    char *data = buf_reserve(&file, RECENT_SLOTS + used * SLOT_SIZE);

    file.len = RECENT_SLOTS + used * SLOT_SIZE;
    memcpy(data + RECENT_MAGIC, recent_magic, sizeof(recent_magic));
    memcpy(data + RECENT_SPOOL_ID, start->spool_id, sizeof(start->spool_id));
    memcpy(data + RECENT_BOOT_ID, start->boot_id, sizeof(start->boot_id));
    bytes_put64(data + RECENT_THROUGH, start->through);
    bytes_put64(data + RECENT_NEXT_SEQUENCE, start->next_sequence);
    bytes_put64(data + RECENT_BRANCH, start->branch);
    bytes_put64(data + RECENT_USED, used);
    for (size_t i = 0; i < used; i++) {
        const struct slot *slot = &recent->slots[i];

        bytes_put64(data + RECENT_SLOTS + i * SLOT_SIZE, word_get(&slot->identity));
        bytes_put64(data + RECENT_SLOTS + i * SLOT_SIZE + 8, word_get(&slot->print));
    }
    bytes_put64(data + RECENT_CRC,
                bytes_crc32c(0, data + RECENT_SPOOL_ID, file.len - RECENT_SPOOL_ID));
    int result = file_replace(dir, RECENT_NAME, buf_bytes(&file), 0600, sync);
    buf_free(&file);
    return result;
}
