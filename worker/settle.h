/* Settles entries: each is acknowledged, moved into the delayed set, or written to the failure transport. Each
 * transport has a settle of its own. One thread.
 *
 * Acknowledgements are sent in bulk, those of a few milliseconds together. An entry is acknowledged only when its
 * message is safe: after the hub's 200, the delayed set's script, or a committed row. When the connection to Redis
 * breaks, acknowledgements are kept as long as the process lives, and sent again. Retries are forgotten: their entries
 * are still pending and will be read again. */
#ifndef WORKER_SETTLE_H
#define WORKER_SETTLE_H

#include "worker/failures.h"
#include "worker/source.h"

struct settle;

enum verdict {
    VERDICT_DONE,    /* published */
    VERDICT_DROPPED, /* not published, because of its route's `drop` */
    VERDICT_RETRY,   /* Messenger's retry with back-off; after the last one as VERDICT_REJECT */
    VERDICT_REJECT,  /* to the failure transport: a retry would fail as well */
};

/* Becomes source->settle. */
struct settle *settle_new(struct source *source, const struct settings_transport *transport,
                          struct failures *failures);
void settle_free(struct settle *settle);

/* cause: for people, in the log and the failure transport. */
void settle_entry(struct entry *entry, enum verdict verdict, const char *cause);
/* The entry's value can't be decoded: it goes to the failure transport unchanged. */
void settle_undecodable(struct entry *entry, const char *cause);
/* A pending id whose body is gone. */
void settle_trimmed(struct settle *settle, struct stream_id id);
/* The callback of failures: the row is committed. */
void settle_rejected(struct entry *entry);

/* Sends the acknowledgements that have come together. last: at once, since few more will come. */
void settle_step(struct settle *settle, int64_t now_ms, bool last);
int64_t settle_deadline_ms(const struct settle *settle); /* monotonic; -1: none */
bool settle_is_idle(const struct settle *settle);        /* nothing to send, nothing unanswered */
size_t settle_waiting(const struct settle *settle); /* acknowledgements that Redis has not taken */

#endif
