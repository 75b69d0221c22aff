/* Entries with the handlers of the settings: a process for each handler that is used, which is given messages and answers
 * what is published of them. The protocol, and what becomes of a message in each case: docs/HANDLERS.md.
 *
 * An entry waits (ENTRY_WAITING) until its handler is ready and has fewer than `inflight` messages in hand, and until fewer
 * than `prefetch_bytes` wait for the hub. It is then in hand (ENTRY_HANDLING) until the handler answers: with updates, for
 * the publisher; with none, or an error, to be settled here. Two messages of one identity are never in hand together.
 *
 * A handler that ends, answers what is no answer, or is overdue is replaced after a back-off. What it had in hand is
 * charged as a worker's death is (source.h): it is redelivered, and in hand alone from then on. An entry that was
 * forgotten stays in hand without being open: its answer is dropped. One thread. */
#ifndef WORKER_HANDLERS_H
#define WORKER_HANDLERS_H

#include "common/runtime/child.h"
#include "worker/settle.h"

#include <poll.h>

struct handlers;

/* The entry has an answer with updates, and is the callee's. */
typedef void handlers_answered(void *context, struct entry *entry);

/* They are started with the first step. */
struct handlers *handlers_new(const struct child *child, handlers_answered *answered,
                              void *context);
void handlers_free(struct handlers *handlers); /* releases all entries */

void handlers_add(struct handlers *handlers, const struct settings_handler *settings,
                  struct entry *entry);
/* Releases what is of that source. */
void handlers_forget(struct handlers *handlers, const struct source *source);
/* The worker ends: what waits is released, what is in hand may still be answered, then they are ended. */
void handlers_stop(struct handlers *handlers);
/* What is in hand is waited for no longer: it is released, and they are asked to end at once. */
void handlers_end(struct handlers *handlers);
bool handlers_have_ended(const struct handlers *handlers);
const char *handlers_trouble(const struct handlers *handlers); /* "" : none */

void handlers_step(struct handlers *handlers, int64_t now_ms);
int64_t handlers_deadline_ms(const struct handlers *handlers); /* -1: none */
unsigned handlers_fds(const struct handlers *handlers);        /* at the most */
unsigned handlers_poll(const struct handlers *handlers, struct pollfd *fds);
void handlers_process(struct handlers *handlers, const struct pollfd *fds, unsigned len);

#endif
