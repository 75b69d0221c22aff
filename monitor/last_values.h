/* GET /latest: the last values of topics (common/client/queue.h), read from Redis beside the other answers.
 *
 *     {"cursor":"1734","messages":[{"id":…},…]}     about PAGE_BYTES of documents, in no order
 *
 * `cursor=1734` asks for the next part, until cursor is null; a part may be empty. A topic that gets a newer value
 * meanwhile may come twice, and a new topic may be missing. `filter=plant/%23` asks for the topics of an MQTT filter,
 * percent-encoded. Topics that the current routes do not show to everybody are left out.
 *
 *     status  body
 *     200     as above
 *     400     {"error":"…"}  filter or cursor is invalid
 *     404     {"error":"…"}  [page] last_values is 0
 *     503     {"error":"…"}  Redis is away, or does not answer within LAST_VALUES_LIMIT_MS, or too many ask
 *
 * One thread; nothing blocks. The connection to Redis is made at the first request, and kept. */
#ifndef MONITOR_LAST_VALUES_H
#define MONITOR_LAST_VALUES_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

#include <poll.h>

#define LAST_VALUES_LIMIT_MS 2000

struct last_values;

/* The settings must live until last_values_free. -ERR_USAGE: the first transport's DSN is wrong. */
MUST_CHECK int last_values_new(struct last_values **values, const struct settings *settings,
                               struct error *err);
void last_values_free(struct last_values *values); /* answers waiting requests; NULL is allowed */

/* Called once for each request; takes the body's memory. */
typedef void last_values_answer(void *context, unsigned status, struct buf body);

/* filter and cursor: the query's values as they were sent (request.h). Calls answer before it returns, or from
 * last_values_process or last_values_free. */
void last_values_ask(struct last_values *values, const char *filter, const char *cursor,
                     last_values_answer *answer, void *context);

/* For the loop, which calls last_values_process after each poll. deadline: monotonic ms; -1: none. */
struct pollfd last_values_poll(const struct last_values *values);
int64_t last_values_deadline(const struct last_values *values);
void last_values_process(struct last_values *values, short revents);

#endif
