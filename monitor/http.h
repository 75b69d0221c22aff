/* The HTTP server: GET and HEAD on one thread of libmicrohttpd's own.
 *
 *     /healthz, /readyz   for whoever watches: 200 or 503
 *     /status, /metrics   with [http] token_file, only with `Authorization: Bearer <token>`
 *     /config.json, /     the page and what it needs
 * It reads shared memory and the last probe; nothing here waits for a server. */
#ifndef MONITOR_HTTP_H
#define MONITOR_HTTP_H

#include "common/base/settings.h"
#include "common/base/stats.h"

struct http;

/* Listens and answers from now on; logs where. Both are kept and must outlive it. -ERR_USAGE: [http]
 * listen or token_file is wrong; -ERR_SYSTEM, -ERR_UNREACHABLE: it can't listen there. */
MUST_CHECK int http_start(struct http **http, const struct settings *settings,
                          const struct stats *stats, struct error *err);
void http_stop(struct http *http); /* NULL is allowed; waits for answers under way */

#endif
