/* Spools that no consumer owns any more: the transport's DSN or a client id was changed, a section was
 * removed. What they hold was acknowledged, so it is sent: one spool after the other, beside the consumers'
 * own work, from the consumer of [mqtt]; where to, dispatch_start says. Segments that lie directly in a
 * client id's folder are a spool of an earlier version.
 *
 * One that has nothing to send any more, since Redis knows its last message, is removed: that is at the start
 * after the one that sent it, so that it can give again what Redis loses soon. One that can't be opened, as
 * its consumer has not ended yet, or whose Redis takes nothing while others wait behind it, is tried again
 * later. A folder without a segment is no spool, and is left alone.
 * Same thread as everything else; never blocks. */
#ifndef CONSUMER_ORPHAN_SPOOLS_H
#define CONSUMER_ORPHAN_SPOOLS_H

#include "common/base/settings.h"
#include "common/base/stats.h"
#include "consumer/dispatch/dispatch.h"

struct orphan_spools;

/* place: where the consumers' own spools go to. look: this consumer has to look for them. */
struct orphan_spools *orphan_spools_new(const struct settings *settings, const char *place,
                                        struct stats_slot *slot, bool look);
void orphan_spools_free(struct orphan_spools *orphans); /* what is not sent yet stays */

/* Messages that wait in the one that is at work; the others are not opened yet. */
uint64_t orphan_spools_unsent(const struct orphan_spools *orphans);
/* Why they wait; "" while they are being sent. Logged by itself. Valid until orphan_spools_process. */
const char *orphan_spools_reason(const struct orphan_spools *orphans);

struct pollfd orphan_spools_poll(const struct orphan_spools *orphans);
int64_t orphan_spools_deadline_ms(const struct orphan_spools *orphans); /* -1: none */
void orphan_spools_process(struct orphan_spools *orphans, short revents, int64_t now_ms);

#endif
