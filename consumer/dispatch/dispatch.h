/* From the spool into the stream: reads records, wraps each into Messenger's envelope, appends them in
 * batches, and commits what Redis says it has.
 *
 * A batch is whatever there is, up to 256 messages or 1 MB; two may be under way. So an idle queue sends
 * at once, and a busy one batches by itself: the next batch grows while the former are answered. Where that
 * is too much for the link, batches are smaller (append_limit.h).
 *
 * Exactly once: a batch is appended only if the mark in Redis is the one that the batch before it set,
 * and sets its own, in one step. On every connect, and after every error, the mark is read and the spool
 * goes back to it; nothing is taken for granted about what was under way. What the mark then means is
 * the spool's to say (spool_apply_mark), and what to do about a refusal is only ever: wait, and try again.
 *
 * An entry larger than max_entry, which Redis would never take, goes to the failure transport.
 * One thread, never blocks. */
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

/* "redis://host:6379/messages": where the spool's records go. */
const char *dispatch_place(const struct dispatch *dispatch);
/* Begins. The spool is not owned, and must be there until dispatch_free. */
void dispatch_start(struct dispatch *dispatch, struct spool *spool);

#define DISPATCH_POLL_FDS 2
/* fd -1 where there is nothing to wait for. */
void dispatch_poll(const struct dispatch *dispatch, struct pollfd fds[DISPATCH_POLL_FDS]);
int64_t dispatch_deadline_ms(const struct dispatch *dispatch); /* monotonic; -1: none */
/* After poll (fds as it left them) and when the deadline is past: takes answers, sends what can be. */
void dispatch_process(struct dispatch *dispatch, const struct pollfd fds[DISPATCH_POLL_FDS],
                      int64_t now_ms);

/* It would send if there were something: only then is an append to the spool worth waking up for. */
bool dispatch_can_send(const struct dispatch *dispatch);
/* Everything that the spool has is in Redis. */
bool dispatch_is_done(const struct dispatch *dispatch);
/* Messages that went out since dispatch_start. */
uint64_t dispatch_sent(const struct dispatch *dispatch);
/* "" when it works, else "redis://…: connection refused". Where it is slow it works, and the reason says
 * what would mend that. */
const char *dispatch_reason(const struct dispatch *dispatch);
/* And the mark is known, so that it can send. */
bool dispatch_is_connected(const struct dispatch *dispatch);
/* It sends, but only a little at a time: the link takes no more (append_limit.h). */
bool dispatch_is_slow(const struct dispatch *dispatch);
/* A try has failed, and none has succeeded since. */
bool dispatch_is_in_trouble(const struct dispatch *dispatch);

/* What the server says of itself; NULL until it was asked. */
const struct queue_server *dispatch_server(const struct dispatch *dispatch);
int64_t dispatch_stream_max_entries(const struct dispatch *dispatch);

#endif
