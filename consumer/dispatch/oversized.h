/* Entries that Redis would never take ([transport:async] max_entry) go to the failure transport instead,
 * where they can be seen and removed. One at a time; the connection to PostgreSQL is opened when the
 * first one comes. Never blocks, one thread. */
#ifndef CONSUMER_DISPATCH_OVERSIZED_H
#define CONSUMER_DISPATCH_OVERSIZED_H

#include "common/base/error.h"
#include "common/base/settings.h"
#include "consumer/spool/spool.h"

#include <poll.h>

struct oversized;

struct oversized *oversized_new(const struct settings *settings);
void oversized_free(struct oversized *oversized);

/* This message's row is committed; an earlier row of the same message counts. */
bool oversized_is_written(const struct oversized *oversized, const struct spool_message *message);
/* A row can be begun now: none is under way, and the wait after a failure is over. To be asked before the
 * entry is encoded, which is work. */
bool oversized_can_write(const struct oversized *oversized, int64_t now_ms);
/* Begins. value: the encoded entry. If it fails it is to be begun anew when oversized_can_write says so. */
void oversized_write(struct oversized *oversized, const struct spool_message *message,
                     const char *spool_id, struct bytes value, int64_t now_ms);
const char *oversized_reason(const struct oversized *oversized); /* how it stands, for people */

void oversized_poll(const struct oversized *oversized, struct pollfd *fd); /* fd -1: nothing */
int64_t oversized_deadline_ms(const struct oversized *oversized);
void oversized_process(struct oversized *oversized);

#endif
