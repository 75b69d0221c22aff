/* MQTT topics: filters, templates that a topic fills, and finding the filter for a topic among many. MQTT 5 and 3.1.1,
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

/* True if some topic matches both filters. */
bool topic_filter_overlaps(struct bytes a, struct bytes b);

/* A subscription to a brings all that one to b would. That is: a covers b, has at least the QoS of b, and both have one
 * share name or none. */
bool topic_filter_subsumes(struct bytes a, int a_qos, struct bytes b, int b_qos);

/* The number of `+` and `#` in the filter. */
unsigned topic_filter_wildcards(struct bytes filter);

/* Takes the next filter of a list in the form of [mqtt] topics, "a/#, b/+@0 c". Filters are separated by commas or
 * white space and may have a QoS, `@0`, `@1` or `@2`. Call until it returns 0; 1: a filter; negative: err says what is
 * wrong. */
MUST_CHECK int topic_filter_next(struct bytes *rest, struct bytes *filter, int *qos,
                                 int default_qos, struct error *err);

/* A text with placeholders that a topic fills:
 *
 *   {topic}                the whole topic
 *   {1} {2} …              the level that the first, second, … wildcard matched; for `#` all its levels, maybe none
 *   {level:2} {level:-1}   the second level, the last one; empty where the topic has no such level
 *   {{                     a brace
 *
 * `:uri` in a placeholder, {1:uri}, encodes the value for a URI: all but letters, digits, `-._~` and `/`. */
struct topic_template;

/* uri: as if `:uri` stood in every placeholder. The text is copied. -ERR_FORMAT names the place and what may stand
 * there. */
MUST_CHECK int topic_template_new(struct topic_template **template, struct bytes text, bool uri,
                                  struct error *err);
void topic_template_free(struct topic_template *template); /* NULL is allowed */

/* The largest N of the template's {N}, or 0: filters that it is used with need so many wildcards. */
unsigned topic_template_wildcards(const struct topic_template *template);

/* Appends the text for a topic that `filter` matches. */
void topic_template_expand(const struct topic_template *template, struct bytes topic,
                           struct bytes filter, struct buf *out);

/* Finds the filter that matches a topic, and that was added first, among many. The cost grows with the levels of the
 * topic, not with the number of filters. */
struct topic_trie;

#define TOPIC_TRIE_NONE UINT32_MAX

struct topic_trie *topic_trie_new(void);
void topic_trie_free(struct topic_trie *trie); /* NULL is allowed */

/* A filter that topic_filter_check takes, without "$share/"; it is copied. `order` is below TOPIC_TRIE_NONE. */
void topic_trie_add(struct topic_trie *trie, struct bytes filter, uint32_t order);

/* The lowest order of the filters that match; TOPIC_TRIE_NONE if none does. */
uint32_t topic_trie_find(struct topic_trie *trie, struct bytes topic);

/* The lowest order of the filters that cover this one, also without "$share/"; TOPIC_TRIE_NONE if none does. */
uint32_t topic_trie_find_cover(struct topic_trie *trie, struct bytes filter);

#endif
