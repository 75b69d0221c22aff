/* What the broker may send again: by packet id, the last message's fingerprint and identity, and whether it
 * is a QoS 2 message that was not released. In memory, and in the file `recent`: see docs/SPOOL.md.
 *
 * One thread puts and finds; another one saves. A slot that changes while it is saved has its record in a
 * segment that is read again at the next start, and records have the last word. */
#ifndef CONSUMER_SPOOL_RECENT_H
#define CONSUMER_SPOOL_RECENT_H

#include "consumer/spool/record.h"

#define RECENT_NAME "recent"

struct recent;

/* Of topic and payload. The rest of a packet may differ when it comes again: DUP is set, and what is left
 * of a Message Expiry Interval is less. */
struct fingerprint {
    uint32_t len;
    uint32_t crc;
};
struct fingerprint fingerprint_of(struct bytes topic, struct bytes payload);

/* Whose file it is, and since when the disk has kept its promises. */
struct recent_origin {
    unsigned char spool_id[16];
    unsigned char boot_id[16];
};

struct recent *recent_new(void);
void recent_free(struct recent *recent);

/* The last message under this packet id; identity 0: none. */
uint64_t recent_get(const struct recent *recent, uint16_t packet_id, struct fingerprint *print,
                    bool *unreleased);
void recent_put(struct recent *recent, uint16_t packet_id, uint64_t identity,
                struct fingerprint print, bool unreleased);
void recent_release(struct recent *recent, uint16_t packet_id);
void recent_release_all(struct recent *recent);
void recent_forget(struct recent *recent);
/* All of it becomes what the other one is. Before anything is put. */
void recent_copy(struct recent *recent, const struct recent *from);
bool recent_is_empty(const struct recent *recent);

/* Returns the number of the segment from which on the records have to be applied: 0 if the file can't say. */
uint64_t recent_load(struct recent *recent, int fd, const struct recent_origin *origin);
/* As at the start, record by record. */
void recent_apply(struct recent *recent, const struct record *record);
/* What has changed since the last time; complete for all segments below `through`. Without the file the next
 * start only knows less. */
void recent_save(struct recent *recent, int fd, const struct recent_origin *origin,
                 uint64_t through);

#endif
