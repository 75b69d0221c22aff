/* What to read next from one transport: connections, lease, and the order of reading: own pending
 * entries, due delayed ones, those of workers that are gone, new ones.
 *
 * Two connections: a reader that may block in XREADGROUP, a writer for everything else. When either
 * breaks both are made anew after a back-off, what has not been sent to the hub is forgotten, and what
 * this consumer has pending is read again.
 *
 * Entries that somebody may have begun with (own pending ones, those of workers that are gone) are handled
 * one at a time, each charged in Redis with one death before it is handled: one that kills its worker
 * goes to the failure transport after `delivery_limit` deaths, and restarts alone charge nobody else. The
 * charge stands while we work on the entry, not while we merely wait for the hub: who is killed then, by
 * whomever, did not die of it.
 * One thread. */
#ifndef WORKER_INTAKE_H
#define WORKER_INTAKE_H

#include "common/base/child.h"
#include "worker/entry.h"
#include "worker/publisher.h"
#include "worker/rejects.h"

#include <curl/curl.h>

struct intake;
struct settle;

#define INTAKE_FDS 2

/* instance: who we are, for the lease and the consumer's name. */
MUST_CHECK int intake_new(struct intake **intake, const struct child *child,
                          const struct settings_transport *transport, const char *instance,
                          struct publisher *publisher, struct rejects *rejects, struct error *err);
void intake_free(struct intake *intake);

/* Does what is due: connects, renews, reads up to `room` entries. may_read false: nothing new now. */
void intake_turn(struct intake *intake, int64_t now_ms, bool may_read, size_t room);
/* Nothing is read any more; the lease is kept. */
void intake_stop(struct intake *intake);
/* Gives the lease back; intake_is_released then becomes true (also if Redis is away). */
void intake_release(struct intake *intake);
bool intake_is_released(const struct intake *intake);

unsigned intake_poll(const struct intake *intake, struct curl_waitfd fds[INTAKE_FDS]);
void intake_process(struct intake *intake, const struct curl_waitfd *fds, unsigned len);
int64_t intake_deadline_ms(const struct intake *intake); /* monotonic; -1: none */

bool intake_is_running(const struct intake *intake); /* connected, leased, past what was pending */
bool intake_is_quiet(const struct intake *intake);   /* waits for new entries and has none */
bool intake_is_idle(const struct intake *intake);    /* no open entry, nothing to acknowledge */
/* Stopped, and Redis is away for so long that nothing is settled any more. */
bool intake_is_lost(const struct intake *intake, int64_t now_ms);
/* Entries that take up room: read or asked for and not settled, but for those that wait for a row. */
size_t intake_open(const struct intake *intake);
size_t intake_open_refused(const struct intake *intake); /* of them: see intake_refused */
size_t intake_open_bytes(const struct intake *intake);
const char *intake_trouble(const struct intake *intake); /* "" : none */

/* For settle, publisher and rejects. */
struct settle *intake_settle(const struct intake *intake);
void intake_settled(struct intake *intake, struct entry *entry); /* releases the entry */
void intake_handled(struct intake *intake, bool done);
uint64_t intake_count(const struct intake *intake, bool done); /* handled so far; or failed */
/* Before anything is done with the entry: true if it is charged, or needs no charge. Else the charge is
 * asked for; ask again in the next turn. */
bool intake_charge(struct intake *intake, struct entry *entry);
/* The same before the hub's answer is acted on; without Redis, where nothing can be charged, true. */
bool intake_may_settle(struct intake *intake, struct entry *entry);
/* The hub is to be waited for: the entry's charge, if any, is taken back. */
void intake_waiting(struct intake *intake, struct entry *entry);
/* Likewise, and it need not be handled alone: there was a definite answer, and it killed nobody. Others are
 * read beside it, entries of lower priority too. For all the time until it is settled. */
void intake_refused(struct intake *intake, struct entry *entry);
/* The delayed set has one more, due then (wall ms). */
void intake_will_be_due(struct intake *intake, int64_t due_ms);
/* The entry alone, in a batch of its own, to wait for its row: it no longer counts as in hand. */
struct entry *intake_detach(struct intake *intake, struct entry *entry);
/* Redis said no to something that nothing goes on without, or is gone: connect and read what is pending
 * anew, after a back-off. */
void intake_fail(struct intake *intake, int result, const struct error *err);

/* What can be refused while the rest goes on; it shows as trouble until it is content again. */
enum intake_complaint {
    COMPLAINT_ACKNOWLEDGE,
    COMPLAINT_RENEW,
    COMPLAINT_DUE,
    COMPLAINT_ADOPT,
    COMPLAINT_CLAIM,
    COMPLAINTS
};
void intake_complain(struct intake *intake, enum intake_complaint about, const struct error *err);
void intake_content(struct intake *intake, enum intake_complaint about);

#endif
