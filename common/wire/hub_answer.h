/* Classifies an answer of the Mercure hub by its status and the beginning of its body. One answer does not tell whether
 * the update is to blame: see worker/suspicion.h. Pure; each row of the table in hub_answer.c has a test. */
#ifndef COMMON_WIRE_HUB_ANSWER_H
#define COMMON_WIRE_HUB_ANSWER_H

#include "common/base/bytes.h"

enum hub_outcome {
    HUB_PASSED,  /* 200 with our id */
    HUB_FAILED,  /* no answer, a server's failure, or the answer of another server than a hub */
    HUB_LIMITED, /* 429, 503: too many requests */
    HUB_REFUSED, /* 400, 403, 413: this update is refused, or every update */
    HUB_UNAUTHORIZED, /* 401: the token does not allow this topic, or any */
};

struct hub_answer {
    enum hub_outcome outcome;
    const char *meaning; /* "the hub refused the update", static */
};

/* status 0: no answer (transport says why: connection refused, time-out). id_matches: the body is the
 * update's id, byte for byte. */
struct hub_answer hub_answer_read(long status, bool id_matches);

/* The beginning of an unexpected answer, for people: a proxy's answer says what is wrong. Some proxies echo the
 * request: an answer that may hold the token is not shown. */
#define HUB_ANSWER_EXCERPT_SIZE 96

struct hub_answer_excerpt {
    char data[HUB_ANSWER_EXCERPT_SIZE];
    size_t len;
};

void hub_answer_excerpt_add(struct hub_answer_excerpt *excerpt, struct bytes chunk);
/* Puts ": <excerpt>" behind text, as far as there is room, unless it may show `token`. */
void hub_answer_excerpt_append(const struct hub_answer_excerpt *excerpt, const char *token,
                               char *text, size_t size);

#endif
