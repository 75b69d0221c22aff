/* What the broker may send again: by packet id, the last message's fingerprint and identity, and whether it
 * is a QoS 2 message that was not released. In memory, and as a snapshot in the file `recent`: docs/SPOOL.md.
 *
 * One thread puts and finds; another one saves. A slot that changes while it is saved has its record in a
 * segment that is read again at the next start, and records have the last word. */
#ifndef CONSUMER_SPOOL_RECENT_H
#define CONSUMER_SPOOL_RECENT_H

#include "common/base/error.h"
#include "common/wire/record.h"

#define RECENT_NAME "recent"
#define RECENT_NEW  "recent.new" /* until it is complete */

struct recent;

/* Of topic and payload. The rest of a packet may differ when it comes again: DUP is set, and what is left
 * of a Message Expiry Interval is less. */
struct fingerprint {
    uint32_t len;
    uint32_t crc;
};
struct fingerprint fingerprint_of(struct bytes topic, struct bytes payload);

struct recent *recent_new(void);
void recent_free(struct recent *recent);

/* The last message under this packet id; identity 0: none. */
uint64_t recent_get(const struct recent *recent, uint16_t packet_id, struct fingerprint *print,
                    bool *unreleased);
void recent_release_all(struct recent *recent);
/* Those whose identity is above this sequence. */
void recent_release_above(struct recent *recent, uint64_t sequence);
void recent_forget(struct recent *recent);
/* What the other one knows has the last word. Before anything is put. */
void recent_merge(struct recent *recent, const struct recent *from);
bool recent_is_empty(const struct recent *recent);

/* What else the next start has to know, the spool's id included: the last segment may be gone. */
struct recent_start {
    unsigned char spool_id[16];
    unsigned char boot_id[16]; /* of the kernel that ran when it was written; zeros: not known */
    /* The records of segments from this number on have to be applied; 0: nothing was stored yet. */
    uint64_t through;
    uint64_t next_sequence; /* no message gets a lower one */
    uint64_t branch;        /* as in the segment's header */
};
/* False if there is no file, or it is damaged. */
MUST_CHECK bool recent_load(struct recent *recent, int dir, struct recent_start *start);
/* As at the start, record by record. */
void recent_apply(struct recent *recent, const struct record *record);
/* The snapshot replaces the one before. sync: its bytes are on the disk then; its name is, once the directory is
 * synced. Returns 0, or -1 and the one before stays. */
MUST_CHECK int recent_save(const struct recent *recent, int dir, const struct recent_start *start,
                           bool sync);

#endif
