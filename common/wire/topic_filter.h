/* MQTT topics and filters. MQTT 5, section 4.7; 3.1.1, section 4.7. Pure. */
#ifndef COMMON_WIRE_TOPIC_FILTER_H
#define COMMON_WIRE_TOPIC_FILTER_H

#include "common/base/bytes.h"
#include "common/base/error.h"

#define TOPIC_LENGTH_MAX 65535

MUST_CHECK int topic_filter_check(struct bytes filter, struct error *err); /* also $share/NAME/… */
MUST_CHECK int topic_name_check(struct bytes topic, struct error *err);
bool topic_filter_matches(struct bytes filter, struct bytes topic); /* both valid; `#` hides `$…` */

/* Every topic that b matches, a matches too. */
bool topic_filter_covers(struct bytes a, struct bytes b);

/* There is a topic that both match. */
bool topic_filter_overlaps(struct bytes a, struct bytes b);

/* Who has subscribed to a has all that b would bring: a covers b, has at least its QoS, and is of the same share,
 * or both of none. */
bool topic_filter_subsumes(struct bytes a, int a_qos, struct bytes b, int b_qos);

/* How many `+` and `#` it has. */
unsigned topic_filter_wildcards(struct bytes filter);

/* A list as [mqtt] topics has it: "a/#, b/+@0 c": separated by commas or white space, an `@0`, `@1` or
 * `@2` behind a filter is its own QoS. Call until it returns 0; 1: one more; negative: what is wrong. */
MUST_CHECK int topic_filter_next(struct bytes *rest, struct bytes *filter, int *qos,
                                 int default_qos, struct error *err);

#endif
