/* Why the session does not stand, for the log: what the library does not tell is asked of reach.h, beside the next
 * attempts. A server that accepts connections and ends ours is told of it too (server_hung_up). */
#ifndef CONSUMER_MQTT_CONNECT_DIAGNOSIS_H
#define CONSUMER_MQTT_CONNECT_DIAGNOSIS_H

#include "consumer/mqtt/endpoints.h"

struct connect_diagnosis;

struct connect_diagnosis *connect_diagnosis_new(void);
void connect_diagnosis_free(struct connect_diagnosis *why);
int connect_diagnosis_fd(const struct connect_diagnosis *why); /* as tcp_probe_fd */

/* About the attempt that has just failed. While a question is open, the last of those asked meanwhile waits. */
void connect_diagnosis_ask(struct connect_diagnosis *why, struct endpoints *dial);
/* This server has let us in since: there is nothing to know any more. */
void connect_diagnosis_forget(struct connect_diagnosis *why, const struct server *server);

struct connect_diagnosis_answer {
    char place[400]; /* for people, as text is */
    char text[160];
    size_t slot; /* endpoints_slot */
};
/* true: there is an answer, and it is still wanted. */
bool connect_diagnosis_take(struct connect_diagnosis *why, int64_t now_ms,
                            struct connect_diagnosis_answer *answer);

/* Logs it, unless that of the same slot was logged a moment ago: each address has its turn in the log. */
void connect_diagnosis_log(struct connect_diagnosis *why, size_t slot, const char *reason,
                           int64_t wait_ms);
/* It stands: logged if there was something before. */
void connect_diagnosis_over(struct connect_diagnosis *why, const char *place);

#endif
