/* Spools that no consumer owns any more: the client id was changed, a section was removed. What they hold
 * was acknowledged, so it is sent: one spool after the other, beside the consumer's own work, from the
 * consumer of [mqtt]. One that has nothing to send any more, since Redis knows its last message, is
 * removed: that is at the start after the one that sent it, so that it can give again what Redis loses
 * soon. One that can't be opened, as its consumer has not ended yet, is tried again once a minute. A folder
 * without a segment is no spool, and is left alone.
 * Same thread as everything else; never blocks. */
#ifndef CONSUMER_ORPHANS_H
#define CONSUMER_ORPHANS_H

#include "common/base/settings.h"
#include "common/base/stats.h"
#include "consumer/dispatch.h"

struct orphans;

/* Looks for them, and logs what it finds. */
struct orphans *orphans_new(const struct settings *settings, struct stats_slot *slot);
void orphans_free(struct orphans *orphans); /* what is not sent yet stays */

/* Messages that wait in the one that is at work; the others are not opened yet. */
uint64_t orphans_unsent(const struct orphans *orphans);
/* Why they wait; "" while they are being sent. Logged by itself. Valid until orphans_process. */
const char *orphans_reason(const struct orphans *orphans);

void orphans_poll(const struct orphans *orphans, struct pollfd fds[DISPATCH_POLL_FDS]);
int64_t orphans_deadline_ms(const struct orphans *orphans); /* -1: none */
void orphans_process(struct orphans *orphans, const struct pollfd fds[DISPATCH_POLL_FDS],
                     int64_t now_ms);

#endif
