/* Why can't the broker be reached? The MQTT library says "TCP connect failure" whatever it was. This
 * asks again what it asked (the name, then one TCP connection, to the one address of it that it takes: the
 * first of IPv4, else the last) and says it in words: "Name or service not known", "Connection refused", or
 * that TCP works and the fault lies behind it.
 *
 * A resolver blocks, so that each question has a short-lived thread of its own (common/base/offload.h). One
 * question at a time. */
#ifndef CONSUMER_REACH_H
#define CONSUMER_REACH_H

#include <stdbool.h>
#include <stddef.h>

struct reach;

struct reach *reach_new(void);
/* An answer that is still under way is thrown away. */
void reach_free(struct reach *reach);

/* Readable when there is an answer; -1: nothing is asked. It changes with each question. */
int reach_fd(const struct reach *reach);
/* place: host:port or [address]:port. false: not asked, for another question is open or no thread is to be
 * had. */
bool reach_ask(struct reach *reach, const char *place);

enum reach_answer {
    REACH_OPEN, /* somebody accepts connections there */
    REACH_CLOSED,
};
struct reach_result {
    enum reach_answer answer;
    char text[160];   /* the reason if it is closed */
    char address[64]; /* that was tried, numeric; "" if the name has none */
    size_t addresses; /* that the name has */
};
/* false: not yet. Each answer is given once. */
bool reach_take(struct reach *reach, struct reach_result *result);

#endif
