/* Records that were stored under a former DSN: where they go, and what is said of it. */
#ifndef CONSUMER_DISPATCH_PREVIOUS_DESTINATION_H
#define CONSUMER_DISPATCH_PREVIOUS_DESTINATION_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/client/queue.h"
#include "consumer/spool/spool.h"

#include <stddef.h>

/* A DSN for place ("redis://host:6379/messages", as dsn_redacted writes it), with the credentials and
 * options of the current one: all that is known. To be freed. Pure. */
char *previous_destination_dsn(const char *current, const char *place);

/* The transport's queue, but for the place. Logs it. -ERR_USAGE. */
MUST_CHECK int previous_destination_queue_new(struct queue **queue,
                                              const struct settings_transport *transport,
                                              const char *place, struct error *err);

/* Why a former place takes nothing, and how to go on without it: for people. The place is named, and the
 * mend is there however long the rest is. Pure. */
void previous_destination_reason(char *text, size_t size, const char *place,
                                 const struct error *err);

/* [spool] former = redirect, before the mark is read: see spool_redirect. Logs what it does. */
void previous_destination_redirect(struct spool *spool, const char *place);

#endif
