#include "consumer/spool/recent.h"

#include "common/base/alloc.h"
#include "common/base/little_endian.h"
#include "common/base/sys.h"
#include "common/wire/crc32c.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The file: recent_magic, CRC, spool id, boot id, number of a segment; then pages of a CRC and 256 slots of two
 * numbers each. A CRC field is never 0, so that a page that was never written is told from a bad one. */
#define PACKET_IDS  65536
#define PAGE_SLOTS  256
#define PAGES       (PACKET_IDS / PAGE_SLOTS)
#define HEAD_SIZE   56
#define PAGE_SIZE   (8 + PAGE_SLOTS * 16)
#define PAGE_AT(n)  ((off_t)(64 + (size_t)(n)*PAGE_SIZE))
#define CRC_WRITTEN (UINT64_C(1) << 32)
static const char recent_magic[8] = "MQBSEEN";

struct slot {
    _Atomic uint64_t identity; /* times two, and one if it is unreleased; 0: none */
    _Atomic uint64_t print;    /* length and CRC */
};

struct recent {
    struct slot *slots;
    _Atomic bool changed[PAGES];
    bool used[PAGES]; /* by whoever puts */
};

struct fingerprint fingerprint_of(struct bytes topic, struct bytes payload)
{
    uint32_t crc = crc32c((uint32_t)topic.len, topic.data, topic.len);

    return (struct fingerprint){.len = (uint32_t)(topic.len + payload.len),
                                .crc = crc32c(crc, payload.data, payload.len)};
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

static void changed(struct recent *recent, size_t page)
{
    recent->used[page] = true;
    atomic_store_explicit(&recent->changed[page], true, memory_order_release);
}

void recent_put(struct recent *recent, uint16_t packet_id, uint64_t identity,
                struct fingerprint print, bool unreleased)
{
    struct slot *slot = &recent->slots[packet_id];

    word_set(&slot->identity, identity << 1 | unreleased);
    word_set(&slot->print, (uint64_t)print.len << 32 | print.crc);
    changed(recent, packet_id / PAGE_SLOTS);
}

void recent_release(struct recent *recent, uint16_t packet_id)
{
    struct slot *slot = &recent->slots[packet_id];

    word_set(&slot->identity, word_get(&slot->identity) & ~UINT64_C(1));
    changed(recent, packet_id / PAGE_SLOTS);
}

void recent_release_all(struct recent *recent)
{
    for (uint32_t id = 0; id < PACKET_IDS; id++)
        if ((word_get(&recent->slots[id].identity) & 1) != 0)
            recent_release(recent, (uint16_t)id);
}

void recent_forget(struct recent *recent)
{
    for (size_t page = 0; page < PAGES; page++) {
        if (!recent->used[page])
            continue;
        for (size_t i = page * PAGE_SLOTS; i < (page + 1) * PAGE_SLOTS; i++)
            word_set(&recent->slots[i].identity, 0);
        changed(recent, page);
        recent->used[page] = false;
    }
}

void recent_copy(struct recent *recent, const struct recent *from)
{
    for (size_t i = 0; i < PACKET_IDS; i++) {
        uint64_t identity = word_get(&from->slots[i].identity);
        if (identity == word_get(&recent->slots[i].identity) &&
            word_get(&from->slots[i].print) == word_get(&recent->slots[i].print))
            continue;
        word_set(&recent->slots[i].identity, identity);
        word_set(&recent->slots[i].print, word_get(&from->slots[i].print));
        changed(recent, i / PAGE_SLOTS);
    }
}

bool recent_is_empty(const struct recent *recent)
{
    for (size_t page = 0; page < PAGES; page++)
        if (recent->used[page])
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
        print = fingerprint_of(record->topic, record->payload);
        if (record->oversized)
            print = (struct fingerprint){little_endian_get32(record->payload.data),
                                         little_endian_get32(record->payload.data + 4)};
        recent_put(recent, record->packet_id, record->sequence - record->repeats, print,
                   record->qos == 2);
        break;
    case RECORD_RELEASE:
        recent_release(recent, record->packet_id);
        break;
    case RECORD_NEW_SESSION:
        recent_forget(recent);
        break;
    default: /* of a later version */
        break;
    }
}

static uint64_t crc_of(const struct recent_origin *origin, size_t page, const char *data,
                       size_t len)
{
    uint32_t crc = crc32c((uint32_t)page, origin->spool_id, 16);

    return crc32c(crc, data, len) | CRC_WRITTEN;
}

/* False if the page is there and bad. */
static bool load_page(struct recent *recent, int fd, const struct recent_origin *origin,
                      size_t page)
{
    char data[PAGE_SIZE] = {0};
    ssize_t got = sys_pread(fd, data, sizeof(data), PAGE_AT(page));

    if (got == 0 || (got > 0 && little_endian_get64(data) == 0))
        return true;
    if (got != PAGE_SIZE ||
        little_endian_get64(data) != crc_of(origin, page + 1, data + 8, PAGE_SIZE - 8))
        return false;
    for (size_t i = 0; i < PAGE_SLOTS; i++) {
        struct slot *slot = &recent->slots[page * PAGE_SLOTS + i];
        word_set(&slot->identity, little_endian_get64(data + 8 + 16 * i));
        word_set(&slot->print, little_endian_get64(data + 16 + 16 * i));
        recent->used[page] |= word_get(&slot->identity) != 0;
    }
    return true;
}

uint64_t recent_load(struct recent *recent, int fd, const struct recent_origin *origin)
{
    static const char unknown[16];
    char head[HEAD_SIZE];
    bool good = true;

    if (sys_pread(fd, head, sizeof(head), 0) != HEAD_SIZE ||
        memcmp(head, recent_magic, sizeof(recent_magic)) != 0 ||
        little_endian_get64(head + 8) != crc_of(origin, 0, head + 16, HEAD_SIZE - 16))
        return 0;
    for (size_t page = 0; page < PAGES; page++)
        good = load_page(recent, fd, origin, page) && good;
    /* After a power cut the pages may be older than the head. */
    good =
        good && memcmp(head + 32, origin->boot_id, 16) == 0 && memcmp(head + 32, unknown, 16) != 0;
    return good ? little_endian_get64(head + 48) : 0;
}

static bool save_page(struct recent *recent, int fd, const struct recent_origin *origin,
                      size_t page)
{
    char data[PAGE_SIZE];

    for (size_t i = 0; i < PAGE_SLOTS; i++) {
        const struct slot *slot = &recent->slots[page * PAGE_SLOTS + i];
        little_endian_put64(data + 8 + 16 * i, word_get(&slot->identity));
        little_endian_put64(data + 16 + 16 * i, word_get(&slot->print));
    }
    little_endian_put64(data, crc_of(origin, page + 1, data + 8, PAGE_SIZE - 8));
    return sys_pwrite(fd, data, PAGE_SIZE, PAGE_AT(page)) == PAGE_SIZE;
}

void recent_save(struct recent *recent, int fd, const struct recent_origin *origin,
                 uint64_t through)
{
    char head[HEAD_SIZE];

    for (size_t page = 0; page < PAGES; page++) {
        if (!atomic_exchange_explicit(&recent->changed[page], false, memory_order_acquire) ||
            save_page(recent, fd, origin, page))
            continue;
        atomic_store(&recent->changed[page], true);
        return; /* the head still tells what is complete */
    }
    memcpy(head, recent_magic, sizeof(recent_magic));
    memcpy(head + 16, origin, 32);
    little_endian_put64(head + 48, through);
    little_endian_put64(head + 8, crc_of(origin, 0, head + 16, HEAD_SIZE - 16));
    (void)!sys_pwrite(fd, head, HEAD_SIZE, 0);
}
