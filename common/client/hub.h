/* Publishes updates to the Mercure hub: one CURLM and a pool of slots, one request in flight on each, over
 * HTTP/1.1 connections that are kept. Slots are made as they are needed: how many requests are in flight is
 * the caller's business, as is their order. Redirects are never followed with the token. One thread.
 *
 * hub_poll is the caller's one wait: on the hub's sockets and on the caller's own descriptors. */
#ifndef COMMON_CLIENT_HUB_H
#define COMMON_CLIENT_HUB_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/settings/settings.h"
#include "common/wire/hub_answer.h"

#include <poll.h>

struct hub;

struct hub_result {
    struct hub_answer answer;
    long status; /* HTTP status, 0 without one */
    int64_t took_us;
    int64_t retry_after_ms; /* Retry-After of an answer; 0: none */
    char text[200]; /* for people: the answer, or why there is none; "" when passed; no secret */
};

/* Called from hub_process and hub_cancel, in any order. owner: from hub_send. The slot is idle again by then, and
 * hub_send may be called. */
typedef void hub_answered(void *context, void *owner, const struct hub_result *result);

/* -ERR_USAGE if the settings of URL or token can't work; err names the setting (see jwt.h). The token is renewed in
 * time. After a 401 it is renewed and the request sent once more, before the 401 is reported. */
MUST_CHECK int hub_new(struct hub **hub, const struct settings_mercure *settings,
                       hub_answered *answered, void *context, struct error *err);
void hub_free(struct hub *hub);

/* An idle slot: the one that was used last, else a new one. It stays idle until hub_send. */
size_t hub_idle_slot(struct hub *hub);
/* The slot's form buffer, cleared: fill it (update_form), then hub_send. */
struct buf *hub_form(struct hub *hub, size_t slot);
/* id: the body that a 200 must have; copied. timeout_ms: of this request. The slot must be idle. */
void hub_send(struct hub *hub, size_t slot, struct bytes id, int64_t timeout_ms, void *owner);
/* Ends a request without its answer: calls back with HUB_FAILED and `why`. */
void hub_cancel(struct hub *hub, size_t slot, const char *why);

/* Waits for the hub's sockets or the caller's (as curl_multi_poll), at most timeout_ms. */
void hub_poll(struct hub *hub, struct pollfd *extra, unsigned extra_len, int timeout_ms);
/* Reads and writes what is possible, and calls back for each answer. */
void hub_process(struct hub *hub);
/* Requests in flight. */
size_t hub_busy(const struct hub *hub);

/* Publishes one update, blocking. Returns 0 with the outcome in result, or -ERR_USAGE as hub_new, with result not
 * filled. */
MUST_CHECK int hub_publish_once(const struct settings_mercure *settings, struct bytes form,
                                struct bytes id, int64_t timeout_ms, struct hub_result *result,
                                struct error *err);

/* The probe: one private update to a topic of our own that nobody reads. If it passes, so do messages. */

/* The probe's topic, and its id for hub_send. */
#define HUB_PROBE_ID BYTES("urn:mqtt-bridge:probe")

void hub_probe_form(struct buf *form);

/* Sends the probe, blocking. 0: it passed, or the token is for other topics only. -ERR_UNREACHABLE: no answer within
 * timeout_ms, or one that says "later" (408, 425, 429, 5xx). -ERR_REFUSED: any other answer. -ERR_USAGE: the token's
 * settings can't work. err names the address and never shows a secret. */
MUST_CHECK int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms,
                             struct error *err);

/* Classifies a probe's result: 0, -ERR_UNREACHABLE or -ERR_REFUSED. Pure. */
MUST_CHECK int hub_probe_judge(const struct hub_result *result, struct error *err);

#endif
