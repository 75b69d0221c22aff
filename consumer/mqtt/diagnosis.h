/* Why can't the broker be reached? The MQTT library says "TCP connect failure" whatever it was. This asks again
 * what it asked (the name, then one TCP connection to the one address that it takes: the first of IPv4, else the
 * last), beside the next attempts, and says it in words: "Name or service not known", "Connection refused", or
 * that TCP works and the fault lies behind it. A server that accepts connections and ends ours is told of it too
 * (server_hung_up).
 *
 * A resolver blocks, so each question has a short-lived thread of its own (common/base/offload.h). One question
 * at a time; the last of those asked meanwhile waits. */
#ifndef CONSUMER_MQTT_DIAGNOSIS_H
#define CONSUMER_MQTT_DIAGNOSIS_H

#include "consumer/mqtt/endpoints.h"

struct diagnosis;

struct diagnosis *diagnosis_new(void);
void diagnosis_free(struct diagnosis *diagnosis); /* an answer under way is thrown away */
/* Readable when there is an answer; -1: nothing is asked. It changes with each question. */
int diagnosis_fd(const struct diagnosis *diagnosis);

/* About the attempt that has just failed. */
void diagnosis_ask(struct diagnosis *diagnosis, const struct endpoint *failed);
/* This server has let us in since: there is nothing to know any more. */
void diagnosis_forget(struct diagnosis *diagnosis, const struct server *server);

struct diagnosis_answer {
    char place[400]; /* for people, as text is */
    char text[160];
    size_t slot; /* the endpoint's */
};
/* true: there is an answer, and it is still wanted. */
bool diagnosis_take(struct diagnosis *diagnosis, int64_t now_ms, struct diagnosis_answer *answer);

#endif
