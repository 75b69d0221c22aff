/* Why can't the broker be reached? The MQTT library says "TCP connect failure" whatever it was. This
 * asks again what it asked (the name, then one TCP connection, to the one address of it that it takes: the
 * first of IPv4, else the last) and says it in words: "Name or service not known", "Connection refused", or
 * that TCP works and the fault lies behind it.
 *
 * A resolver blocks, so that each question has a short-lived thread of its own (common/base/offload.h). One
 * question at a time. */
#ifndef CONSUMER_MQTT_TCP_PROBE_H
#define CONSUMER_MQTT_TCP_PROBE_H

#include <stdbool.h>
#include <stddef.h>

struct tcp_probe;

struct tcp_probe *tcp_probe_new(void);
/* An answer that is still under way is thrown away. */
void tcp_probe_free(struct tcp_probe *probe);

/* Readable when there is an answer; -1: nothing is asked. It changes with each question. */
int tcp_probe_fd(const struct tcp_probe *probe);
/* place: host:port or [address]:port. false: not asked, for another question is open or no thread is to be
 * had. */
bool tcp_probe_ask(struct tcp_probe *probe, const char *place);

enum tcp_probe_answer {
    TCP_PROBE_OPEN, /* somebody accepts connections there */
    TCP_PROBE_CLOSED,
};
struct tcp_probe_result {
    enum tcp_probe_answer answer;
    char text[160];   /* the reason if it is closed */
    char address[64]; /* that was tried, numeric; "" if the name has none */
    size_t addresses; /* that the name has */
};
/* false: not yet. Each answer is given once. */
bool tcp_probe_take(struct tcp_probe *probe, struct tcp_probe_result *result);

#endif
