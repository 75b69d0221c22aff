#include "common/wire/topic_trie.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* One level of the filters that begin alike. All nodes but the root lie in one hash table, by their parent's number
 * and the text of their level; a `+` has a pointer of its own, for it is looked for at every level. */
struct node {
    uint32_t number;
    uint32_t lowest;   /* order of the filters here and below */
    uint32_t ends;     /* order of the filter that ends here */
    uint32_t multi;    /* order of the filter that ends here with a `#` behind */
    struct node *plus; /* the level `+` */
    UT_hash_handle hh;
    char key[]; /* the parent's number, then the level */
};

/* The nodes that the levels of a topic lead to. */
struct frontier {
    struct node **nodes;
    size_t len;
    size_t capacity;
};

struct topic_trie {
    struct node *root;
    struct node *nodes;
    uint32_t count;
    struct buf key;
    struct frontier current;
    struct frontier next;
};

static struct node *node_new(struct topic_trie *trie, struct bytes key)
{
    struct node *node = xcalloc(1, sizeof(*node) + key.len);

    node->number = trie->count++;
    node->lowest = TOPIC_TRIE_NONE;
    node->ends = TOPIC_TRIE_NONE;
    node->multi = TOPIC_TRIE_NONE;
    if (key.len > 0)
        memcpy(node->key, key.data, key.len);
    return node;
}

struct topic_trie *topic_trie_new(void)
{
    struct topic_trie *trie = xcalloc(1, sizeof(*trie));

    trie->root = node_new(trie, BYTES_NONE);
    return trie;
}

void topic_trie_free(struct topic_trie *trie)
{
    struct node *node, *following;

    if (trie == NULL)
        return;
    HASH_ITER(hh, trie->nodes, node, following)
    {
        HASH_DEL(trie->nodes, node); // NOLINT(clang-analyzer-unix.Malloc): not yet freed
        free(node);
    }
    free(trie->root);
    free(trie->current.nodes);
    free(trie->next.nodes);
    buf_free(&trie->key);
    free(trie);
}

static struct bytes make_key(struct topic_trie *trie, const struct node *parent, struct bytes level)
{
    buf_clear(&trie->key);
    buf_append(&trie->key, (struct bytes){(const char *)&parent->number, sizeof(parent->number)});
    buf_append(&trie->key, level);
    return buf_bytes(&trie->key);
}

static struct node *find_child(struct topic_trie *trie, const struct node *parent,
                               struct bytes level)
{
    struct bytes key = make_key(trie, parent, level);
    struct node *child;

    HASH_FIND(hh, trie->nodes, key.data, key.len, child);
    return child;
}

static struct node *find_or_add_child(struct topic_trie *trie, struct node *parent,
                                      struct bytes level)
{
    struct node *child = find_child(trie, parent, level);

    if (child != NULL)
        return child;
    struct bytes key = buf_bytes(&trie->key);
    child = node_new(trie, key);
    HASH_ADD_KEYPTR(hh, trie->nodes, child->key, key.len, child);
    if (bytes_equal_text(level, "+"))
        parent->plus = child;
    return child;
}

static void keep_lowest(uint32_t *lowest, uint32_t order)
{
    if (order < *lowest)
        *lowest = order;
}

void topic_trie_add(struct topic_trie *trie, struct bytes filter, uint32_t order)
{
    struct node *node = trie->root;
    bool more = true;

    keep_lowest(&node->lowest, order);
    while (more) {
        struct bytes level;

        more = bytes_split(filter, '/', &level, &filter);
        if (bytes_equal_text(level, "#")) {
            keep_lowest(&node->multi, order);
            return;
        }
        node = find_or_add_child(trie, node, level);
        keep_lowest(&node->lowest, order);
    }
    keep_lowest(&node->ends, order);
}

/* A node below which nothing has a lower order than the best is not followed. */
static void frontier_add(struct frontier *frontier, struct node *node, uint32_t best)
{
    if (node == NULL || node->lowest >= best)
        return;
    if (frontier->len == frontier->capacity) {
        frontier->capacity = frontier->capacity == 0 ? 16 : 2 * frontier->capacity;
        frontier->nodes = xrealloc(frontier->nodes, frontier->capacity * sizeof(struct node *));
    }
    frontier->nodes[frontier->len++] = node;
}

static void follow_level(struct topic_trie *trie, struct bytes level, bool wildcards,
                         uint32_t *best)
{
    struct frontier reached = trie->next;

    reached.len = 0;
    for (size_t i = 0; i < trie->current.len; i++) {
        const struct node *node = trie->current.nodes[i];

        if (wildcards)
            keep_lowest(best, node->multi);
        frontier_add(&reached, find_child(trie, node, level), *best);
        if (wildcards)
            frontier_add(&reached, node->plus, *best);
    }
    trie->next = trie->current;
    trie->current = reached;
}

uint32_t topic_trie_find(struct topic_trie *trie, struct bytes topic)
{
    uint32_t best = TOPIC_TRIE_NONE;

    /* Section 4.7.2: a wildcard in front does not see the server's own topics. */
    bool wildcards = !bytes_starts_with(topic, BYTES("$"));
    bool more = true;

    trie->current.len = 0;
    frontier_add(&trie->current, trie->root, best);
    while (more && trie->current.len > 0) {
        struct bytes level;

        more = bytes_split(topic, '/', &level, &topic);
        follow_level(trie, level, wildcards, &best);
        wildcards = true;
    }
    for (size_t i = 0; i < trie->current.len; i++) {
        keep_lowest(&best, trie->current.nodes[i]->ends);
        keep_lowest(&best, trie->current.nodes[i]->multi); /* "a/#" matches "a" */
    }
    return best;
}
