/* Entries on their way into the failure transport, one row at a time, in order. While PostgreSQL is away
 * they wait here and stay pending in Redis: a failure store that is down loses nothing. One thread. */
#ifndef WORKER_REJECTS_H
#define WORKER_REJECTS_H

#include "common/base/buf.h"
#include "common/base/child.h"
#include "worker/entry.h"

struct rejects;

/* What a row says of its entry, in the header X-Mqtt-Entry: `<stream id>-<CRC-32C>`. */
#define REJECT_NAME_SIZE (STREAM_ID_TEXT_SIZE + 9)

/* [failure] dsn may be empty: rejects_exist is then false, and nothing may be added. */
MUST_CHECK int rejects_new(struct rejects **rejects, const struct settings_failure *settings,
                           struct error *err);
void rejects_free(struct rejects *rejects);
bool rejects_exist(const struct rejects *rejects);

/* Takes both buffers' contents over; the headers hold `name`, by which the row is found should it have been
 * written before. settle_rejected is called once the row is committed. */
void rejects_add(struct rejects *rejects, struct entry *entry, const char *name, struct buf *body,
                 struct buf *headers);
void rejects_forget(struct rejects *rejects, const struct intake *intake);

void rejects_turn(struct rejects *rejects, int64_t now_ms);
const char *rejects_trouble(const struct rejects *rejects); /* "" : none */
bool rejects_are_empty(const struct rejects *rejects);
bool rejects_are_full(
    const struct rejects *rejects); /* so much waits that nothing more is to be read */

int rejects_fd(const struct rejects *rejects); /* -1: none */
short rejects_events(const struct rejects *rejects);
int64_t rejects_deadline_ms(const struct rejects *rejects);
void rejects_process(struct rejects *rejects);

#endif
