/* Spools that no consumer owns any more: the transport's DSN or a client id was changed, or a section was removed. The
 * messages of these spools were acknowledged. So the consumer of [mqtt] sends them, one spool after the other, beside
 * other work; dispatch_start says where to. Segments directly in a client id's folder are a spool of an earlier
 * version; a folder without a segment is no spool.
 *
 * The run that sends a spool keeps it, to replay what Redis may lose soon. A later run removes it, if Redis has its
 * last message already at the start. A spool that can't be opened, since its consumer has not ended yet, is tried again
 * later. So is one whose Redis takes nothing while other spools wait. Runs in main's thread and never blocks. */
#ifndef CONSUMER_ORPHAN_SPOOLS_H
#define CONSUMER_ORPHAN_SPOOLS_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"

#include <poll.h>

struct orphan_spools;

/* destination: the transport that the consumers' own spools are sent to. look: this consumer handles orphan spools. */
struct orphan_spools *orphan_spools_new(const struct settings *settings, const char *destination,
                                        struct stats_slot *slot, bool look);
void orphan_spools_free(struct orphan_spools *orphans); /* what is not sent yet stays */

struct orphan_spools_state {
    uint64_t unsent; /* messages of the spool that is being sent; the others are not open */
    /* Files of oversized messages, of all spools, orphan or not, as counted some seconds ago. */
    uint64_t oversized_messages;
    uint64_t oversized_bytes;
    const char *reason; /* why orphan spools are not sent, as logged; "": they are sent */
};
/* Valid until orphan_spools_process. */
struct orphan_spools_state orphan_spools_state(const struct orphan_spools *orphans);

struct pollfd orphan_spools_poll(const struct orphan_spools *orphans);
int64_t orphan_spools_deadline_ms(const struct orphan_spools *orphans); /* -1: none */
void orphan_spools_process(struct orphan_spools *orphans, short revents, int64_t now_ms);

#endif
