/* The end of every entry: acknowledged, into the delayed set, or into the failure transport. One a
 * transport. One thread.
 *
 * Acknowledgements are sent in bulk: what has come together in a few milliseconds. Nothing is
 * acknowledged before what replaces it is safe: the hub's 200, the delayed set's script, a committed row.
 * When Redis breaks in the middle, acknowledgements are kept, as long as the process lives, and sent again;
 * retries are forgotten, because the entry is still pending and will be read again. */
#ifndef WORKER_SETTLE_H
#define WORKER_SETTLE_H

#include "worker/failures.h"
#include "worker/source.h"

struct settle;

enum verdict {
    VERDICT_DONE,    /* published */
    VERDICT_DROPPED, /* by its route, without being published */
    VERDICT_RETRY, /* Messenger's retry with back-off; the failure transport once the retries are used up */
    VERDICT_REJECT, /* no use to try again: the failure transport */
};

/* Becomes source->settle. */
struct settle *settle_new(struct source *source, const struct settings_transport *transport,
                          struct failures *failures);
void settle_free(struct settle *settle);

/* cause: for people. */
void settle_entry(struct entry *entry, enum verdict verdict, const char *cause);
/* Its value can't be decoded: likewise, as it is. */
void settle_undecodable(struct entry *entry, const char *cause);
/* A pending id whose body is gone. */
void settle_trimmed(struct settle *settle, struct stream_id id);
/* The callback of failures: the row is committed. */
void settle_rejected(struct entry *entry);

/* Sends the acknowledgements that have come together. last: few more are to come. */
void settle_step(struct settle *settle, int64_t now_ms, bool last);
int64_t settle_deadline_ms(const struct settle *settle); /* monotonic; -1: none */
bool settle_is_idle(const struct settle *settle);        /* nothing to send, nothing unanswered */
size_t settle_waiting(const struct settle *settle); /* acknowledgements that Redis has not taken */

#endif
