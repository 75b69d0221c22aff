/* A text with placeholders that an MQTT topic fills:
 *
 *   {topic}                the whole topic
 *   {1} {2} …              what the first, second, … wildcard of the filter took; of a `#` all levels, maybe none
 *   {level:2} {level:-1}   the second level, the last one; empty where the topic has no such level
 *   {{                     a brace
 *
 * `:uri` behind any of them, {1:uri}, encodes it for a URI: all but letters, digits, `-._~` and `/`. Pure. */
#ifndef COMMON_WIRE_TOPIC_TEMPLATE_H
#define COMMON_WIRE_TOPIC_TEMPLATE_H

#include "common/base/buf.h"
#include "common/base/error.h"

struct topic_template;

/* uri: as if `:uri` stood in every placeholder. The text is copied. -ERR_FORMAT names the place and what may stand
 * there. */
MUST_CHECK int topic_template_new(struct topic_template **template, struct bytes text, bool uri,
                                  struct error *err);
void topic_template_free(struct topic_template *template); /* NULL is allowed */

/* The largest N of its {N}, 0 if it has none: each filter that it is used with needs so many wildcards. */
unsigned topic_template_wildcards(const struct topic_template *template);

/* Appends the text for a topic that `filter` matches. */
void topic_template_expand(const struct topic_template *template, struct bytes topic,
                           struct bytes filter, struct buf *out);

#endif
