/* Entries on their way into the failure transport, one row at a time, in order. While PostgreSQL is away
 * they wait here and stay pending in Redis: a failure store that is down loses nothing. A row that it
 * refuses is tried again behind the others. One thread; the row under way is written beside it. */
#ifndef WORKER_FAILURES_H
#define WORKER_FAILURES_H

#include "common/base/buf.h"
#include "common/settings/settings.h"
#include "worker/entry.h"

struct failures;

/* Called once the entry's row is committed; the entry is the callee's again. */
typedef void failures_done(struct entry *entry);

/* [failure] dsn may be empty: failures_exist is then false, and nothing may be added. */
MUST_CHECK int failures_new(struct failures **failures, const struct settings_failure *settings,
                            failures_done *done, struct error *err);
/* Waits for no row: what is not committed stays pending. */
void failures_free(struct failures *failures);
bool failures_exist(const struct failures *failures);

/* Takes the buffers' contents over. The headers hold the entry's name, by which a row that was written before is found,
 * and `identity` as JSON quotes it, by which the row of another copy of the message is found. */
void failures_add(struct failures *failures, struct entry *entry, const char *name,
                  struct buf *identity, struct buf *body, struct buf *headers);
/* The source has lost its connection: gives up its entries, which are read again. */
void failures_forget(struct failures *failures, const struct source *source);
/* The worker ends: what is not written while rows are still committed stays pending. */
void failures_stop(struct failures *failures, int64_t now_ms);
bool failures_are_given_up(const struct failures *failures, int64_t now_ms);

void failures_step(struct failures *failures, int64_t now_ms);
const char *failures_trouble(const struct failures *failures); /* "" : none */
/* So much waits that nothing may be added; less than half of that. */
bool failures_are_full(const struct failures *failures);
bool failures_have_room(const struct failures *failures);

int failures_fd(const struct failures *failures); /* POLLIN; -1: none */
int64_t failures_deadline_ms(const struct failures *failures);
void failures_process(struct failures *failures);

#endif
