/* The HTTP server: GET and HEAD, answered within the caller's loop.
 *
 *     /healthz                        for liveness: 200 or 503
 *     /readyz                         200 or 503; why, with the token
 *     /status, /metrics, /config.json, /failures (202: ask again soon)
 *                                     with [http] token_file, only with `Authorization: Bearer <token>`
 *     /latest                         with the token too: last_values.h
 *     /                               the page's files
 * All but /healthz are served only under a name of [http] hosts (request.h). connections.h says which connection is
 * closed. Answers come from shared memory and the last probe. /latest reads Redis, for which only that connection
 * waits. Nothing here blocks for a server or a client. */
#ifndef MONITOR_HTTP_H
#define MONITOR_HTTP_H

#include "common/runtime/stats.h"
#include "common/settings/settings.h"

#include <poll.h>

struct http;

/* Listens; logs the address. settings and stats must outlive the server. -ERR_USAGE:
 * [http] listen or token_file is wrong; -ERR_SYSTEM, -ERR_UNREACHABLE: it can't listen on that address. */
MUST_CHECK int http_start(struct http **http, const struct settings *settings,
                          const struct stats *stats, struct error *err);
void http_stop(struct http *http); /* NULL is allowed, here and below */

/* The loop polls these descriptors (fd -1: none), and calls http_process then and at the deadline (-1: none). */
#define HTTP_FDS 2
void http_poll(const struct http *http, struct pollfd fds[HTTP_FDS]);
int64_t http_deadline(const struct http *http, int64_t now_ms);
void http_process(struct http *http, const struct pollfd fds[HTTP_FDS]);

#endif
