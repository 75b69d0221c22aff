#include "common/wire/topic.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/wire/update.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define SHARE_PREFIX "$share/"

static bool contains(struct bytes text, char c)
{
    return text.len > 0 && memchr(text.data, c, text.len) != NULL;
}

static bool is_wildcard(struct bytes level, char wildcard)
{
    return level.len == 1 && level.data[0] == wildcard;
}

/* Checks the rules for both names and filters: sections 4.7.3 and 1.5.4. */
static int check_string(struct bytes text, const char *what, struct error *err)
{
    if (text.len == 0)
        return error_set(err, ERR_FORMAT, "an MQTT %s is at least one character long", what);
    if (text.len > TOPIC_LENGTH_MAX)
        return error_set(err, ERR_TOO_LARGE, "the MQTT %s \"%.40s...\" is longer than %d bytes",
                         what, text.data, TOPIC_LENGTH_MAX);
    if (!bytes_is_utf8(text))
        return error_set(err, ERR_FORMAT, "the MQTT %s is not UTF-8", what);
    if (contains(text, '\0'))
        return error_set(err, ERR_FORMAT, "the MQTT %s \"%.80s\" holds a NUL byte", what,
                         text.data);
    return 0;
}

int topic_name_check(struct bytes topic, struct error *err)
{
    int result = check_string(topic, "topic", err);

    if (result < 0)
        return result;
    if (contains(topic, '+') || contains(topic, '#'))
        return error_set(err, ERR_FORMAT, "the MQTT topic \"%.*s\" holds a wildcard",
                         BYTES_ARG(topic));
    return 0;
}

/* Returns the filter behind "$share/NAME/", or the whole filter if the subscription is not
 * shared. */
static struct bytes without_share(struct bytes filter)
{
    struct bytes rest, name;

    if (!bytes_starts_with(filter, BYTES(SHARE_PREFIX)))
        return filter;
    bytes_split(bytes_slice(filter, sizeof(SHARE_PREFIX) - 1, filter.len), '/', &name, &rest);
    return rest;
}

static int check_levels(struct bytes filter, struct bytes levels, struct error *err)
{
    bool more = true;

    while (more) {
        struct bytes level, rest;

        more = bytes_split(levels, '/', &level, &rest);
        if (contains(level, '#') && (level.len > 1 || more))
            return error_set(
                err, ERR_FORMAT,
                "the MQTT filter \"%.*s\" is not valid: `#` is only allowed alone in the "
                "last level",
                BYTES_ARG(filter));
        if (contains(level, '+') && level.len > 1)
            return error_set(err, ERR_FORMAT,
                             "the MQTT filter \"%.*s\" is not valid: `+` must fill its level",
                             BYTES_ARG(filter));
        levels = rest;
    }
    return 0;
}

int topic_filter_check(struct bytes filter, struct error *err)
{
    int result = check_string(filter, "filter", err);

    if (result < 0)
        return result;
    if (bytes_starts_with(filter, BYTES(SHARE_PREFIX))) {
        struct bytes name, rest;

        bytes_split(bytes_slice(filter, sizeof(SHARE_PREFIX) - 1, filter.len), '/', &name, &rest);
        if (name.len == 0 || rest.len == 0 || contains(name, '+') || contains(name, '#'))
            return error_set(err, ERR_FORMAT,
                             "the MQTT filter \"%.*s\" is not valid: a shared one is "
                             "$share/NAME/FILTER, NAME without wildcards",
                             BYTES_ARG(filter));
    }
    return check_levels(filter, without_share(filter), err);
}

/* b may be a topic: a filter without wildcards. */
static bool covers(struct bytes a, struct bytes b)
{
    bool a_more = true, b_more = true;

    /* "+/#" matches the same topics as "#", since a topic has at least one level. */
    if (bytes_equal_text(a, "+/#"))
        a = BYTES("#");
    /* Section 4.7.2: a wildcard in the first level does not match topics that begin with `$`. */
    if (b.len > 0 && b.data[0] == '$' && a.len > 0 && a.data[0] != '$')
        return false;
    while (a_more) {
        struct bytes a_level, b_level;

        a_more = bytes_split(a, '/', &a_level, &a);
        if (is_wildcard(a_level, '#'))
            return true; /* matches even if no level is left: "a/#" matches "a" */
        if (!b_more)
            return false;
        b_more = bytes_split(b, '/', &b_level, &b);
        if (is_wildcard(b_level, '#'))
            return false;
        if (!is_wildcard(a_level, '+') && !bytes_equal(a_level, b_level))
            return false;
    }
    return !b_more;
}

bool topic_filter_matches(struct bytes filter, struct bytes topic)
{
    return covers(without_share(filter), topic);
}

bool topic_filter_covers(struct bytes a, struct bytes b)
{
    return covers(without_share(a), without_share(b));
}

bool topic_filter_overlaps(struct bytes a, struct bytes b)
{
    bool a_more = true, b_more = true;

    a = without_share(a);
    b = without_share(b);
    if (bytes_starts_with(a, BYTES("$")) != bytes_starts_with(b, BYTES("$")))
        return false;
    while (a_more && b_more) {
        struct bytes a_level, b_level;

        a_more = bytes_split(a, '/', &a_level, &a);
        b_more = bytes_split(b, '/', &b_level, &b);
        if (is_wildcard(a_level, '#') || is_wildcard(b_level, '#'))
            return true;
        if (!is_wildcard(a_level, '+') && !is_wildcard(b_level, '+') &&
            !bytes_equal(a_level, b_level))
            return false;
    }
    return a_more == b_more || bytes_equal_text(a_more ? a : b, "#");
}

bool topic_filter_subsumes(struct bytes a, int a_qos, struct bytes b, int b_qos)
{
    struct bytes a_share = bytes_slice(a, 0, a.len - without_share(a).len);
    struct bytes b_share = bytes_slice(b, 0, b.len - without_share(b).len);

    return a_qos >= b_qos && bytes_equal(a_share, b_share) && topic_filter_covers(a, b);
}

unsigned topic_filter_wildcards(struct bytes filter)
{
    unsigned wildcards = 0;
    bool more = true;

    while (more) {
        struct bytes level;

        more = bytes_split(filter, '/', &level, &filter);
        wildcards += is_wildcard(level, '+') || is_wildcard(level, '#');
    }
    return wildcards;
}

/* Cuts "@QOS" off the word's end. An `@` without a number belongs to the filter: topics may hold
 * addresses. */
static int take_qos(struct bytes *word, int *qos, struct error *err)
{
    const char *at = memrchr(word->data, '@', word->len);
    uint64_t number;

    if (at == NULL)
        return 0;
    size_t before = (size_t)(at - word->data);
    struct bytes digits = bytes_slice(*word, before + 1, word->len);
    if (digits.len == 0 || !bytes_to_u64(digits, &number))
        return 0;
    if (number > 2)
        return error_set(err, ERR_FORMAT, "\"%.*s\": the QoS behind `@` is 0, 1 or 2",
                         BYTES_ARG(*word));
    word->len = before;
    *qos = (int)number;
    return 0;
}

int topic_filter_next(struct bytes *rest, struct bytes *filter, int *qos, int default_qos,
                      struct error *err)
{
    struct bytes word;
    int result;

    *filter = BYTES_NONE;
    *qos = default_qos;
    if (!bytes_next_item(rest, &word))
        return 0;
    result = take_qos(&word, qos, err);
    if (result < 0)
        return result;
    result = topic_filter_check(word, err);
    if (result < 0)
        return result;
    *filter = word;
    return 1;
}

/* A topic has at most 65535 bytes, so a higher number of a level is a mistake. */
#define NUMBER_MAX 65535

enum part_kind { PART_TEXT, PART_TOPIC, PART_WILDCARD, PART_LEVEL, PART_LEVEL_FROM_END };

struct part {
    enum part_kind kind;
    bool uri;
    unsigned number; /* number of the wildcard or level, from 1 */
    struct bytes text;
};

struct topic_template {
    char *text;
    struct part *parts;
    size_t len;
};

static void add_part(struct topic_template *template, struct part part)
{
    if (part.kind == PART_TEXT && part.text.len == 0)
        return;
    template->parts = xrealloc(template->parts, (template->len + 1) * sizeof(part));
    template->parts[template->len++] = part;
}

static bool read_number(struct bytes text, unsigned *number)
{
    uint64_t value;

    if (!bytes_to_u64(text, &value) || value == 0 || value > NUMBER_MAX)
        return false;
    *number = (unsigned)value;
    return true;
}

/* name: the text between the braces. */
static bool read_placeholder(struct bytes name, struct part *part)
{
    if (bytes_ends_with(name, BYTES(":uri"))) {
        part->uri = true;
        name.len -= strlen(":uri");
    }
    if (bytes_equal_text(name, "topic")) {
        part->kind = PART_TOPIC;
        return true;
    }
    part->kind = PART_WILDCARD;
    if (bytes_starts_with(name, BYTES("level:"))) {
        part->kind = PART_LEVEL;
        name = bytes_slice(name, strlen("level:"), name.len);
        if (bytes_starts_with(name, BYTES("-"))) {
            part->kind = PART_LEVEL_FROM_END;
            name = bytes_slice(name, 1, name.len);
        }
    }
    return read_number(name, &part->number);
}

/* *rest begins with the placeholder's opening brace, which is `at` bytes into the template. */
static int take_placeholder(struct topic_template *template, struct bytes *rest, size_t at,
                            bool uri, struct error *err)
{
    struct part part = {.uri = uri};
    struct bytes name, behind;

    if (!bytes_split(bytes_slice(*rest, 1, rest->len), '}', &name, &behind))
        return error_set(err, ERR_FORMAT,
                         "character %zu opens a placeholder that nothing closes; `{{` is a brace",
                         at + 1);
    if (!read_placeholder(name, &part))
        return error_set(
            err, ERR_FORMAT,
            "character %zu: no placeholder is called {%.*s}; there are {topic}, {1} for what the "
            "first "
            "wildcard took, {level:2}, {level:-1}, each also with :uri, and `{{` for a brace",
            at + 1, (int)(name.len > 40 ? 40 : name.len), name.data);
    add_part(template, part);
    *rest = behind;
    return 0;
}

static int read_parts(struct topic_template *template, struct bytes whole, bool uri,
                      struct error *err)
{
    struct bytes rest = whole;

    while (rest.len > 0) {
        const char *brace = memchr(rest.data, '{', rest.len);
        size_t before = brace != NULL ? (size_t)(brace - rest.data) : rest.len;
        bool doubled = before + 1 < rest.len && rest.data[before + 1] == '{';

        add_part(template, (struct part){.text = bytes_slice(rest, 0, before + doubled)});
        rest = bytes_slice(rest, before + 2 * (size_t)doubled, rest.len);
        if (rest.len == 0 || doubled)
            continue;
        int result = take_placeholder(template, &rest, whole.len - rest.len, uri, err);
        if (result < 0)
            return result;
    }
    return 0;
}

int topic_template_new(struct topic_template **template, struct bytes text, bool uri,
                       struct error *err)
{
    struct topic_template *made = xcalloc(1, sizeof(*made));

    made->text = xstrndup(text.data != NULL ? text.data : "", text.len);
    int result = read_parts(made, (struct bytes){made->text, text.len}, uri, err);
    if (result < 0) {
        topic_template_free(made);
        return result;
    }
    *template = made;
    return 0;
}

void topic_template_free(struct topic_template *template)
{
    if (template == NULL)
        return;
    free(template->text);
    free(template->parts);
    free(template);
}

unsigned topic_template_wildcards(const struct topic_template *template)
{
    unsigned most = 0;

    for (size_t i = 0; i < template->len; i++)
        if (template->parts[i].kind == PART_WILDCARD && template->parts[i].number > most)
            most = template->parts[i].number;
    return most;
}

/* Returns the n-th level; the first is 1. */
static struct bytes topic_level(struct bytes topic, unsigned n)
{
    struct bytes level = BYTES_NONE;
    bool more = true;

    for (unsigned i = 0; i < n; i++) {
        if (!more)
            return BYTES_NONE;
        more = bytes_split(topic, '/', &level, &topic);
    }
    return level;
}

/* Returns the n-th level from the end; the last is 1. */
static struct bytes topic_level_from_end(struct bytes topic, unsigned n)
{
    for (;; n--) {
        const char *slash = topic.len > 0 ? memrchr(topic.data, '/', topic.len) : NULL;

        if (n == 1)
            return slash == NULL ? topic
                                 : bytes_slice(topic, (size_t)(slash - topic.data) + 1, topic.len);
        if (slash == NULL)
            return BYTES_NONE;
        topic = bytes_slice(topic, 0, (size_t)(slash - topic.data));
    }
}

/* Returns the part of the topic that matches the filter's n-th wildcard; the first is 1. */
static struct bytes taken_by_wildcard(struct bytes topic, struct bytes filter, unsigned n)
{
    bool more = true;

    while (more) {
        struct bytes level, topic_rest;

        more = bytes_split(filter, '/', &level, &filter);
        if (bytes_equal_text(level, "#"))
            return n == 1 ? topic : BYTES_NONE;
        struct bytes taken;
        bytes_split(topic, '/', &taken, &topic_rest);
        if (bytes_equal_text(level, "+") && --n == 0)
            return taken;
        topic = topic_rest;
    }
    return BYTES_NONE;
}

static struct bytes part_value(const struct part *part, struct bytes topic, struct bytes filter)
{
    switch (part->kind) {
    case PART_TEXT:
        return part->text;
    case PART_TOPIC:
        return topic;
    case PART_WILDCARD:
        return taken_by_wildcard(topic, filter, part->number);
    case PART_LEVEL:
        return topic_level(topic, part->number);
    case PART_LEVEL_FROM_END:
        return topic_level_from_end(topic, part->number);
    }
    return BYTES_NONE;
}

void topic_template_expand(const struct topic_template *template, struct bytes topic,
                           struct bytes filter, struct buf *out)
{
    for (size_t i = 0; i < template->len; i++) {
        struct bytes value = part_value(&template->parts[i], topic, filter);

        if (template->parts[i].uri)
            update_encode_topic(out, value);
        else
            buf_append(out, value);
    }
}

/* One level that several filters may share. All nodes but the root are in one hash table, by the
 * parent's number and the level's text. A child `+` also has a pointer, since every search looks
 * for it at every level. */
struct node {
    uint32_t number;
    uint32_t lowest;   /* lowest order of the filters here and below */
    uint32_t ends;     /* order of the filter that ends here */
    uint32_t multi;    /* order of the filter that ends here with a `#` behind */
    struct node *plus; /* the level `+` */
    UT_hash_handle hh;
    char key[]; /* the parent's number, then the level */
};

/* The nodes that the topic's levels so far lead to. */
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

/* Adds a node, unless no filter below has a lower order than the best so far. */
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

/* level: of a topic, or `+`, which only `+` covers. */
static void follow_level(struct topic_trie *trie, struct bytes level, bool wildcards,
                         uint32_t *best)
{
    bool literal = !is_wildcard(level, '+');
    struct frontier reached = trie->next;

    reached.len = 0;
    for (size_t i = 0; i < trie->current.len; i++) {
        const struct node *node = trie->current.nodes[i];

        if (wildcards)
            keep_lowest(best, node->multi);
        if (literal)
            frontier_add(&reached, find_child(trie, node, level), *best);
        if (wildcards)
            frontier_add(&reached, node->plus, *best);
    }
    trie->next = trie->current;
    trie->current = reached;
}

/* Where the levels have come to their end. */
static uint32_t best_end(const struct topic_trie *trie, uint32_t best)
{
    for (size_t i = 0; i < trie->current.len; i++) {
        keep_lowest(&best, trie->current.nodes[i]->ends);
        keep_lowest(&best, trie->current.nodes[i]->multi); /* "a/#" also matches "a" */
    }
    return best;
}

uint32_t topic_trie_find(struct topic_trie *trie, struct bytes topic)
{
    uint32_t best = TOPIC_TRIE_NONE;

    /* Section 4.7.2: a wildcard in the first level does not match topics that begin with `$`. */
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
    return best_end(trie, best);
}

/* Of the filters that `#` follows: only they cover a filter that ends with `#` here. */
static uint32_t find_multi(const struct topic_trie *trie, bool first, bool wildcards, uint32_t best)
{
    for (size_t i = 0; i < trie->current.len && wildcards; i++) {
        const struct node *node = trie->current.nodes[i];

        keep_lowest(&best, node->multi);
        if (first && node->plus != NULL) /* "+/#" covers "#" */
            keep_lowest(&best, node->plus->multi);
    }
    return best;
}

uint32_t topic_trie_find_cover(struct topic_trie *trie, struct bytes filter)
{
    uint32_t best = TOPIC_TRIE_NONE;
    bool wildcards = !bytes_starts_with(filter, BYTES("$"));
    bool more = true, first = true;

    trie->current.len = 0;
    frontier_add(&trie->current, trie->root, best);
    while (more && trie->current.len > 0) {
        struct bytes level;

        more = bytes_split(filter, '/', &level, &filter);
        if (is_wildcard(level, '#'))
            return find_multi(trie, first, wildcards, best);
        follow_level(trie, level, wildcards, &best);
        wildcards = true;
        first = false;
    }
    return best_end(trie, best);
}
