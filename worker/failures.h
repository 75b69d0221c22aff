/* Entries on their way into the failure transport, one row at a time, in order. While the failure transport is away the
 * entries wait here and stay pending in Redis: nothing is lost. A row that the database refuses is tried again after
 * the others. One thread calls these functions; a row is written by a thread of its own. */
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
/* Waits for no row: entries whose row is not committed stay pending. */
void failures_free(struct failures *failures);
bool failures_exist(const struct failures *failures);

/* Takes the buffers' contents over. The headers hold the entry's name, by which a row that was written before is found.
 * They also hold `identity`, quoted as JSON, by which the row of another copy of the message is found. */
void failures_add(struct failures *failures, struct entry *entry, const char *name,
                  struct buf *identity, struct buf *body, struct buf *headers);
/* The source has lost its connection: releases its entries, which will be read again. */
void failures_forget(struct failures *failures, const struct source *source);
/* The worker ends: rows are written as long as the failure transport commits some; the other entries stay pending. */
void failures_stop(struct failures *failures, int64_t now_ms);
/* Stopped, and no row was committed for some time: nothing more is waited for. */
bool failures_are_overdue(const struct failures *failures, int64_t now_ms);

void failures_step(struct failures *failures, int64_t now_ms);
const char *failures_trouble(const struct failures *failures); /* "" : none */
/* The limit of waiting rows is reached: nothing may be added. */
bool failures_are_full(const struct failures *failures);
/* Less than half of the limit is used: entries that were left for want of room may come back. */
bool failures_have_room(const struct failures *failures);

int failures_fd(const struct failures *failures); /* POLLIN; -1: none */
int64_t failures_deadline_ms(const struct failures *failures);
void failures_process(struct failures *failures);

#endif
