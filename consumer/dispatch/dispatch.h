/* From the spool into the stream: reads records, wraps each into Messenger's envelope, appends them in
 * batches, and commits what Redis says it has.
 *
 * A batch is what the spool has to send, up to 256 messages or 1 MB; two may be in flight. An idle queue thus
 * sends at once; a busy one batches, since the next batch grows while those before it are answered. On a slow
 * link batches are smaller (struct dispatch_limit, below).
 *
 * Exactly once: Redis takes a batch only if the stored mark is the one that the batch before has set. The same step
 * sets the mark of the new batch. The mark is read on every connect and after every error, and the spool continues
 * behind it (spool_apply_mark). Any refusal is answered by waiting and trying again.
 *
 * | state         | event                                    | next                                     |
 * |---------------|------------------------------------------|------------------------------------------|
 * | WAITING       | the wait is over, connected              | READING_MARK                             |
 * |               | the wait is over, not connected          | CONNECTING                               |
 * | CONNECTING    | connected                                | READING_MARK                             |
 * | READING_MARK  | the mark                                 | SENDING; CONNECTING to another destination     |
 * | SENDING       | an append is accepted                    | SENDING; healthy, the back-off is reset  |
 * | any of those  | refused, fenced, late, connection lost   | FAILING                                  |
 * | FAILING       | all in flight is answered: fenced        | READING_MARK (three times in a row)      |
 * |               | ... anything else                        | WAITING, each time longer                |
 *
 * The state is healthy after an accepted append, or after a mark behind which nothing is unsent. A refused
 * append alone does not end the connection.
 *
 * Oversized messages lie in files beside the segments (common/client/oversized_file), and the mark moves past them. A
 * message is oversized if no segment takes it, or if its entry is larger than [transport:async] max_entry. It is also
 * oversized if Redis refused it for its size when it was alone in a batch. One thread, never blocks. */
#ifndef CONSUMER_DISPATCH_DISPATCH_H
#define CONSUMER_DISPATCH_DISPATCH_H

#include "common/base/error.h"
#include "common/client/queue.h"
#include "common/runtime/stats.h"
#include "common/settings/settings.h"
#include "consumer/spool/spool.h"

#include <poll.h>

struct dispatch;

/* The transport `async` of the settings, which outlive it. -ERR_USAGE. */
MUST_CHECK int dispatch_new(struct dispatch **dispatch, const struct settings *settings,
                            struct stats_slot *slot, struct error *err);
void dispatch_free(struct dispatch *dispatch);

/* "redis://host:6379/messages": the transport's, which is the spool's destination. */
const char *dispatch_destination(const struct dispatch *dispatch);
/* Begins to send. The spool is not owned, and must stay until dispatch_free. destination: the one of the spool's
 * records; an orphan spool's differs from the transport's. Such a spool is sent to the transport if the transport's
 * Redis has the spool's mark (a promoted replica, or one server under two names). [spool] former = redirect sends it
 * there as well. Otherwise it is sent to its own destination. */
void dispatch_start(struct dispatch *dispatch, struct spool *spool, const char *destination);

struct pollfd dispatch_poll(const struct dispatch *dispatch);  /* fd -1: nothing to wait for */
int64_t dispatch_deadline_ms(const struct dispatch *dispatch); /* monotonic; -1: none */
/* After poll and when the deadline is past: takes answers, sends what can be. */
void dispatch_process(struct dispatch *dispatch, short revents, int64_t now_ms);

/* A message that is appended to the spool now would be sent: main asks to be woken by appends only then. */
bool dispatch_can_send(const struct dispatch *dispatch);
/* Everything that the spool has is in Redis. */
bool dispatch_is_done(const struct dispatch *dispatch);

struct dispatch_health {
    /* "" when it works, else "redis://…: connection refused". Valid until dispatch_process. */
    const char *reason;
    bool connected;  /* the mark was read, and nothing was refused since */
    bool degraded;   /* a slow link (struct dispatch_limit); `reason` names what would help */
    bool in_trouble; /* an attempt has failed, and no append was accepted since */
    uint64_t sent;   /* messages, since the start */
    const struct queue_server *server; /* NULL until Redis has said it */
};
struct dispatch_health dispatch_health(const struct dispatch *dispatch);

/* Limits of an append: how many bytes it carries, how many appends are in flight, how long an answer is waited
 * for. A slow link to Redis is noticed by appends that are late, and by nothing else. Appends then get smaller,
 * so that some are answered within the connection's time-out.
 *
 * | event                                   | bytes of an append      | answer time-out      |
 * |-----------------------------------------|-------------------------|----------------------|
 * | normal                                  | 1 MB, two in flight     | the connection's     |
 * | late                                    | half of what was late   |                      |
 * | late, and few bytes or one message only |                         | twice as long        |
 * | answered within a third of the time-out | twice as many           | half as long         |
 * | answered within two thirds              | an eighth more          | half as long         |
 * | answered in time                        |                         | half as long         |
 * | answered after the time-out             |                         |                      |
 *
 * Bytes stay between 16 kB and 1 MB, the answer time-out between the connection's and an hour. One late append
 * may be due to a server that stood still: the link is degraded from the second one until all is normal. Pure. */
#define DISPATCH_LIMIT_IN_FLIGHT   2
#define DISPATCH_LIMIT_BYTES       1000000
#define DISPATCH_LIMIT_BYTES_MIN   16384
#define DISPATCH_LIMIT_TIMEOUT_MAX 3600000 /* ms */

struct dispatch_limit {
    int64_t timeout_ms;        /* the connection's */
    int64_t answer_timeout_ms; /* an append's; not below timeout_ms */
    size_t bytes;      /* an append is full when it has so many; one message may have more */
    unsigned late;     /* late appends since all was normal */
    size_t late_bytes; /* of the last late append */
    int64_t late_ms;   /* the answer time-out that it had */
};

void dispatch_limit_init(struct dispatch_limit *limit, int64_t timeout_ms);
/* The oldest append in flight, of so many messages, was not answered in time. */
void dispatch_limit_timed_out(struct dispatch_limit *limit, size_t bytes, size_t messages);
void dispatch_limit_answered(struct dispatch_limit *limit, int64_t took_ms);

/* Appends that may be in flight at once. */
size_t dispatch_limit_in_flight(const struct dispatch_limit *limit);
bool dispatch_limit_is_degraded(const struct dispatch_limit *limit);
/* What was late, and the limits now; for a degraded link also the option of the DSN that helps. */
void dispatch_limit_explain(const struct dispatch_limit *limit, const char *destination,
                            struct error *err);

#endif
