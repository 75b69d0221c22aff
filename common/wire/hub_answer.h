/* What an answer of the Mercure hub says: its status, and the beginning of its body. It alone blames no update:
 * worker/suspicion.h does, by contrast. Pure; each row of the table in hub_answer.c has a test. */
#ifndef COMMON_WIRE_HUB_ANSWER_H
#define COMMON_WIRE_HUB_ANSWER_H

#include "common/base/bytes.h"

enum hub_outcome {
    HUB_PASSED,       /* 200 with our id */
    HUB_FAILED,       /* no answer, a server's failure, or the answer of something that is no hub */
    HUB_LIMITED,      /* 429, 503: too many at once */
    HUB_REFUSED,      /* 400, 403, 413: this update, or all of them */
    HUB_UNAUTHORIZED, /* 401: the token is not for this topic, or for none */
};

struct hub_answer {
    enum hub_outcome outcome;
    const char *meaning; /* "the hub refused the update", static */
};

/* status 0: no answer (transport says why: connection refused, time-out). id_matches: the body is the
 * update's id, byte for byte. */
struct hub_answer hub_answer_read(long status, bool id_matches);

/* The beginning of an answer that was not what it should be, for people: proxies say in it what is wrong.
 * Some echo the request; what has a token in it is not shown. */
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
