/* Filters of a session that another program made under our client id (the PHP consumer, when the bridge moves
 * in). MQTT lists a session's filters to nobody, but they can be guessed: an unknown one covers a topic that
 * arrives, or is like one of ours. Candidates are the generalisations of both (each level itself or `+`, and `#`
 * behind each), never a filter of ours. They are unsubscribed: to a broker without one of them that is nothing,
 * and MQTT 5 tells which it had.
 *
 * Bounded: topics of up to 8 levels, and 8000 candidates in all. One thread. */
#ifndef CONSUMER_MQTT_INHERITED_H
#define CONSUMER_MQTT_INHERITED_H

#include "consumer/mqtt/subscriptions.h"

struct inherited;

/* With what is like the filters, which are not owned. */
struct inherited *inherited_new(const struct subscriptions *filters);
void inherited_free(struct inherited *inherited);

/* A topic that has arrived, or a filter. */
void inherited_add(struct inherited *inherited, struct bytes topic);
bool inherited_is_full(const struct inherited *inherited);

/* The next candidates, each once: at most max, and max_bytes of text. They live as long as `inherited`. */
size_t inherited_next(struct inherited *inherited, const char **texts, size_t max,
                      size_t max_bytes);
/* Those given last went unanswered: the next are the same. */
void inherited_again(struct inherited *inherited);

#endif
