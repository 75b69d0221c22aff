/* Publishes updates to the Mercure hub: one CURLM, a fixed number of HTTP/1.1 keep-alive connections,
 * one request in flight on each. Order holds per connection, so callers choose the connection by a hash
 * of the topic. Redirects are never followed with the token. One thread.
 *
 * curl_multi_poll is the caller's loop: hub_poll waits on the hub's sockets and on the caller's own
 * descriptors at once. */
#ifndef COMMON_CLIENT_HUB_H
#define COMMON_CLIENT_HUB_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/settings.h"
#include "common/wire/hub_answer.h"

#include <curl/curl.h>

struct hub;

struct hub_result {
    struct hub_answer answer;
    long status; /* HTTP status, 0 without one */
    int64_t took_us;
    int64_t retry_after_ms; /* Retry-After of an answer that means wait; 0: none */
    char text[200]; /* for people: what was answered, or why nothing was; "" when done; no secret */
};

/* Called from hub_process, in any order of connections. The connection is idle again when it runs: it
 * may hub_send on it. */
typedef void hub_answered(void *context, size_t connection, const struct hub_result *result);

/* -ERR_USAGE if url or token settings can't work, said with their names (see jwt.h). The token is
 * renewed in time, and once for a 401 before that is passed on. */
MUST_CHECK int hub_new(struct hub **hub, const struct settings_mercure *settings,
                       hub_answered *answered, void *context, struct error *err);
void hub_free(struct hub *hub);

size_t hub_connections(const struct hub *hub);
bool hub_is_idle(const struct hub *hub, size_t connection);
/* The connection's form buffer, cleared: fill it (update_form), then hub_send. It is kept, so that
 * hub_send alone sends the same again, unless it is over HUB_FORM_KEPT_MAX: then its memory is given back
 * with the answer. */
#define HUB_FORM_KEPT_MAX (1024 * 1024)
struct buf *hub_form(struct hub *hub, size_t connection);
/* id: what a 200's body must be; kept by copy. The connection must be idle. */
void hub_send(struct hub *hub, size_t connection, struct bytes id);

/* Waits for the hub's sockets or the caller's (as curl_multi_poll), at most timeout_ms. */
void hub_poll(struct hub *hub, struct curl_waitfd *extra, unsigned extra_len, int timeout_ms);
/* Moves everything on and calls back for each answer. */
void hub_process(struct hub *hub);
/* Requests in flight. */
size_t hub_busy(const struct hub *hub);

/* One publish, blocking (the command line). 0: done; -ERR_UNREACHABLE: no answer within timeout_ms, or
 * one that says "later"; -ERR_REFUSED: any other; -ERR_USAGE as hub_new, and then result is not filled. */
MUST_CHECK int hub_publish_once(const struct settings_mercure *settings, struct bytes form,
                                struct bytes id, int64_t timeout_ms, struct hub_result *result,
                                struct error *err);

#endif
