/* Why the session does not stand, for the log: what the library does not tell is asked of reach.h, beside the next
 * attempts. A server that accepts connections and ends ours is told of it too (session_server_hung_up). */
#ifndef CONSUMER_SESSION_WHY_H
#define CONSUMER_SESSION_WHY_H

#include "consumer/session_dial.h"

struct session_why;

struct session_why *session_why_new(void);
void session_why_free(struct session_why *why);
int session_why_fd(const struct session_why *why); /* as reach_fd */

/* About the attempt that has just failed. While a question is open, the last of those asked meanwhile waits. */
void session_why_ask(struct session_why *why, struct session_dial *dial);
/* This server has let us in since: there is nothing to know any more. */
void session_why_forget(struct session_why *why, const struct session_server *server);

struct session_why_answer {
    char place[400]; /* for people, as text is */
    char text[160];
    size_t slot; /* session_dial_slot */
};
/* true: there is an answer, and it is still wanted. */
bool session_why_take(struct session_why *why, int64_t now_ms, struct session_why_answer *answer);

/* Logs it, unless that of the same slot was logged a moment ago: each address has its turn in the log. */
void session_why_log(struct session_why *why, size_t slot, const char *reason, int64_t wait_ms);
/* It stands: logged if there was something before. */
void session_why_over(struct session_why *why, const char *place);

#endif
