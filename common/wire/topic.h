/* MQTT topics: their filters, the texts that they fill, and which of many filters takes one. MQTT 5 and 3.1.1,
 * section 4.7. Pure; topic_trie_find uses memory of the trie: one thread. */
#ifndef COMMON_WIRE_TOPIC_H
#define COMMON_WIRE_TOPIC_H

#include "common/base/buf.h"
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

/* A text with placeholders that a topic fills:
 *
 *   {topic}                the whole topic
 *   {1} {2} …              what the first, second, … wildcard of the filter took; of a `#` all levels, maybe none
 *   {level:2} {level:-1}   the second level, the last one; empty where the topic has no such level
 *   {{                     a brace
 *
 * `:uri` behind any of them, {1:uri}, encodes it for a URI: all but letters, digits, `-._~` and `/`. */
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

/* Which of many filters takes a topic: the one that was added first. The cost grows with the levels of the topic, not
 * with the number of filters. */
struct topic_trie;

#define TOPIC_TRIE_NONE UINT32_MAX

struct topic_trie *topic_trie_new(void);
void topic_trie_free(struct topic_trie *trie); /* NULL is allowed */

/* A filter that topic_filter_check takes, without "$share/"; it is copied. `order` is below TOPIC_TRIE_NONE. */
void topic_trie_add(struct topic_trie *trie, struct bytes filter, uint32_t order);

/* The lowest order of the filters that match; TOPIC_TRIE_NONE if none does. */
uint32_t topic_trie_find(struct topic_trie *trie, struct bytes topic);

#endif
