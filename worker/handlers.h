/* The handlers of the settings: one process for each handler that a route uses. It gets messages, and answers which
 * updates are published for them. The protocol, and what becomes of a message in each case: docs/HANDLERS.md.
 *
 * An entry waits (ENTRY_WAITING) until its handler is ready, has fewer than `inflight` messages in hand, and less than
 * `prefetch_bytes` wait for the hub. The entry is then in hand (ENTRY_HANDLING) until the handler answers. An
 * answer with updates goes to the publisher; one without, or an error, is settled here. Two messages of one identity
 * are never in hand together.
 *
 * A handler that ends, writes a line that is no answer, or is overdue is replaced after a back-off. The entries that it
 * had in hand are charged as for a worker's death (source.h): redelivered, and from then on in hand alone. The call of
 * a forgotten entry stays in hand: its answer is dropped. If the handler dies first, the entry is charged, also where it
 * has been read again. One thread. */
#ifndef WORKER_HANDLERS_H
#define WORKER_HANDLERS_H

#include "common/runtime/child.h"
#include "worker/settle.h"

#include <poll.h>

struct handlers;

/* The entry has an answer with updates. The callee owns the entry from now on. */
typedef void handlers_answered(void *context, struct entry *entry);

/* The processes are started with the first step. */
struct handlers *handlers_new(const struct child *child, handlers_answered *answered,
                              void *context);
void handlers_free(struct handlers *handlers); /* releases all entries */

void handlers_add(struct handlers *handlers, const struct settings_handler *settings,
                  struct entry *entry);
/* Releases the entries of that source. */
void handlers_forget(struct handlers *handlers, const struct source *source);
/* The worker ends: entries that wait are handed over no more, and stay open. Entries in hand may still be answered;
 * then the handlers are ended. */
void handlers_stop(struct handlers *handlers);
/* The worker gives back its entries: those in hand become redelivered. That includes an entry that waits, if the call of
 * its former reading is still in hand. */
void handlers_redeliver(struct handlers *handlers);
/* Releases the entries in hand, and asks the handlers to end at once. */
void handlers_end(struct handlers *handlers);
bool handlers_have_ended(const struct handlers *handlers);
const char *handlers_trouble(const struct handlers *handlers); /* "" : none */

void handlers_step(struct handlers *handlers, int64_t now_ms);
int64_t handlers_deadline_ms(const struct handlers *handlers); /* -1: none */
unsigned handlers_fds(const struct handlers *handlers); /* the most that handlers_poll fills in */
unsigned handlers_poll(const struct handlers *handlers, struct pollfd *fds);
void handlers_process(struct handlers *handlers, const struct pollfd *fds, unsigned len);

#endif
