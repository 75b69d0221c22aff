/* GET /latest: the last values of topics (common/client/queue.h), read from Redis beside the other answers.
 *
 *     {"cursor":"1734","messages":[{"id":…},…]}     about PAGE_BYTES of documents, in no order
 *
 * With `cursor=1734` comes the next part, until cursor is null; a part may be empty. A topic that has a newer value
 * meanwhile may come twice, and one that is new may be missing. `filter=plant/%23` asks for the topics of an MQTT
 * filter, percent-encoded. Left out is what the routes now in force do not show to everybody.
 *
 *     status  body
 *     200     as above
 *     400     {"error":"…"}  filter or cursor is none
 *     404     {"error":"…"}  [page] last_values is 0
 *     503     {"error":"…"}  Redis is away, or does not answer within LAST_VALUES_LIMIT_MS, or too many ask
 *
 * One thread; nothing blocks. The connection to Redis is made when somebody asks, and kept. */
#ifndef MONITOR_LAST_VALUES_H
#define MONITOR_LAST_VALUES_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

#include <poll.h>

#define LAST_VALUES_LIMIT_MS 2000

struct last_values;

/* The settings must outlive it. -ERR_USAGE: the first transport's DSN is wrong. */
MUST_CHECK int last_values_new(struct last_values **values, const struct settings *settings,
                               struct error *err);
void last_values_free(
    struct last_values *values); /* who still waits is answered; NULL is allowed */

/* Once; takes the body's memory. */
typedef void last_values_answer(void *context, unsigned status, struct buf body);

/* The query's values as they were sent (request.h). Answers before it returns, or from last_values_process or last_values_free. */
void last_values_ask(struct last_values *values, const char *filter, const char *cursor,
                     last_values_answer *answer, void *context);

/* For the loop, which calls last_values_process after each poll. deadline: monotonic ms; -1: none. */
struct pollfd last_values_poll(const struct last_values *values);
int64_t last_values_deadline(const struct last_values *values);
void last_values_process(struct last_values *values, short revents);

#endif
