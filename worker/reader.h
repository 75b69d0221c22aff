/* Reads one transport: connections, lease, and the order of reading. The order: our own pending entries, delayed
 * members that are due, entries of dead workers, entries left in Redis after a reading, new entries.
 *
 * There are two connections: one that may block in XREADGROUP, and the source's writer. When either breaks, both are
 * made anew after a back-off. Entries that are not sent to the hub are then forgotten, and this consumer's pending
 * entries are read again. A reading keeps as many bytes as the credit allows, and one entry at the least. The other
 * entries are left in Redis and read again by their ids. One thread. */
#ifndef WORKER_READER_H
#define WORKER_READER_H

#include "worker/failures.h"
#include "worker/publisher.h"
#include "worker/source.h"

#include <poll.h>

struct reader;

#define READER_FDS 2

/* What may be read in one step. */
struct credit {
    bool may_read;     /* the hub takes updates */
    bool has_priority; /* no transport of higher priority has entries */
    size_t entries;
    size_t bytes;
    size_t aside_bytes; /* for entries that lanes have left in Redis */
};

/* instance: this worker's instance id, for the lease and the consumer's name. total: shared by all readers. */
MUST_CHECK int reader_new(struct reader **reader, const struct child *child,
                          const struct settings_transport *transport, const char *instance,
                          struct load *total, struct publisher *publisher,
                          struct failures *failures, struct error *err);
void reader_free(struct reader *reader);

/* Does what is due: connects, renews, reads. */
void reader_step(struct reader *reader, int64_t now_ms, const struct credit *credit);
/* Nothing is read any more; the lease is kept. */
void reader_stop(struct reader *reader);
/* Gives entries and lease back; reader_is_released then becomes true (also if Redis is away). */
void reader_release(struct reader *reader);
bool reader_is_released(const struct reader *reader);

unsigned reader_poll(const struct reader *reader, struct pollfd fds[READER_FDS]);
void reader_process(struct reader *reader, const struct pollfd *fds, unsigned len);
int64_t reader_deadline_ms(const struct reader *reader); /* monotonic; -1: none */

const struct source *reader_source(const struct reader *reader);
bool reader_is_running(const struct reader *reader); /* connected, with the lease, reading works */
bool reader_is_quiet(const struct reader *reader);   /* waits for new entries and has none */
/* Stopped, nothing is left to acknowledge, and no entry is open but those set aside or waiting for their handler.
 * without_rows: entries that wait for a row in the failure transport don't count either. */
bool reader_is_idle(const struct reader *reader, bool without_rows);
/* Stopped, and Redis has been away for so long that nothing more will be settled. */
bool reader_is_lost(const struct reader *reader, int64_t now_ms);

#endif
