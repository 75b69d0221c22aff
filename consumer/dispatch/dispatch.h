/* From the spool into the stream: reads records, wraps each into Messenger's envelope, appends them in
 * batches, and commits what Redis says it has.
 *
 * A batch is whatever there is, up to 256 messages or 1 MB; two may be in flight. So an idle queue sends
 * at once, and a busy one batches by itself: the next batch grows while the former are answered. Where that
 * is too much for the link, batches are smaller (append_limit.h).
 *
 * Exactly once: a batch is appended only if the mark in Redis is the expected one, which the batch before it
 * has set, and sets its own, in one step. On every connect, and after every error, the mark is read and the
 * spool goes back to it; nothing is taken for granted about what was in flight. What the mark then means is
 * the spool's to say (spool_apply_mark), and what to do about a refusal is only ever: wait, and try again.
 *
 * | state         | event                                    | next                                     |
 * |---------------|------------------------------------------|------------------------------------------|
 * | WAITING       | the wait is over, connected              | READING_MARK                             |
 * |               | the wait is over, not connected          | CONNECTING                               |
 * | CONNECTING    | connected                                | READING_MARK                             |
 * | READING_MARK  | the mark                                 | SENDING; CONNECTING to another place     |
 * | SENDING       | an append is accepted                    | SENDING; healthy, the back-off is reset  |
 * | any of those  | refused, fenced, late, connection lost   | FAILING                                  |
 * | FAILING       | all in flight is answered: fenced        | READING_MARK (three times in a row)      |
 * |               | ... anything else                        | WAITING, each time longer                |
 *
 * Healthy is said of an accepted append alone, or of a mark behind which nothing is left to send. A connection
 * is kept while only an append was refused.
 *
 * What is too large for a segment, for Redis ([transport:async] max_entry, estimated before it is encoded) or,
 * alone in its batch, for this Redis, lies in a file beside the segments (common/client/oversized_file): the
 * mark moves past it. One thread, never blocks. */
#ifndef CONSUMER_DISPATCH_DISPATCH_H
#define CONSUMER_DISPATCH_DISPATCH_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/base/stats.h"
#include "common/client/queue.h"
#include "consumer/spool/spool.h"

#include <poll.h>

struct dispatch;

/* The transport `async` of the settings, which outlive it. -ERR_USAGE. */
MUST_CHECK int dispatch_new(struct dispatch **dispatch, const struct settings *settings,
                            struct stats_slot *slot, struct error *err);
void dispatch_free(struct dispatch *dispatch);

/* "redis://host:6379/messages": the transport's, which is the spool's destination. */
const char *dispatch_place(const struct dispatch *dispatch);
/* Begins. The spool is not owned, and must be there until dispatch_free. destination: where its records belong.
 * An orphan spool's is another place than the transport's. If the Redis there knows the spool's mark it is a
 * copy of the previous one (a promoted replica, or the same under another name), and gets what it has not;
 * else the spool goes to where it had to go, or by [spool] former = redirect all the same here. */
void dispatch_start(struct dispatch *dispatch, struct spool *spool, const char *destination);

struct pollfd dispatch_poll(const struct dispatch *dispatch);  /* fd -1: nothing to wait for */
int64_t dispatch_deadline_ms(const struct dispatch *dispatch); /* monotonic; -1: none */
/* After poll and when the deadline is past: takes answers, sends what can be. */
void dispatch_process(struct dispatch *dispatch, short revents, int64_t now_ms);

/* It would send if there were something: only then is an append to the spool worth waking up for. */
bool dispatch_can_send(const struct dispatch *dispatch);
/* Everything that the spool has is in Redis. */
bool dispatch_is_done(const struct dispatch *dispatch);
/* Messages that went out since the start. */
uint64_t dispatch_sent(const struct dispatch *dispatch);

struct dispatch_health {
    const char *
        reason; /* "" when it works, else "redis://…: connection refused"; valid until dispatch_process */
    bool connected; /* the mark is known, and nothing was refused since */
    bool
        degraded; /* it works, a little at a time (append_limit.h); `reason` says what would mend that */
    bool in_trouble;                   /* a try has failed, and no append was accepted since */
    const struct queue_server *server; /* what it says of itself; NULL until it was asked */
};
struct dispatch_health dispatch_health(const struct dispatch *dispatch);

#endif
