/* Which of many MQTT filters takes a topic: the one that was added first. The cost grows with the levels of the
 * topic, not with the number of filters. MQTT 5 and 3.1.1, section 4.7. Pure; topic_trie_find uses memory of the
 * trie: one thread. */
#ifndef COMMON_WIRE_TOPIC_TRIE_H
#define COMMON_WIRE_TOPIC_TRIE_H

#include "common/base/bytes.h"

#define TOPIC_TRIE_NONE UINT32_MAX

struct topic_trie;

struct topic_trie *topic_trie_new(void);
void topic_trie_free(struct topic_trie *trie); /* NULL is allowed */

/* A filter that topic_filter_check takes, without "$share/"; it is copied. `order` is below TOPIC_TRIE_NONE. */
void topic_trie_add(struct topic_trie *trie, struct bytes filter, uint32_t order);

/* The lowest order of the filters that match; TOPIC_TRIE_NONE if none does. */
uint32_t topic_trie_find(struct topic_trie *trie, struct bytes topic);

#endif
