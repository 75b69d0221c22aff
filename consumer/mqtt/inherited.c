#include "consumer/mqtt/inherited.h"

#include "common/base/alloc.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS_MAX     8
#define LENGTH_MAX     512
#define CANDIDATES_MAX 8000

struct inherited {
    const struct subscriptions *filters;
    void *known; /* tsearch's tree of the candidates */
    char **candidates;
    size_t len;
    size_t given;      /* so many of them */
    size_t last_given; /* before inherited_next was called last */
};

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool is_ours(const struct inherited *inherited, const char *text)
{
    for (size_t i = 0; i < subscriptions_count(inherited->filters); i++)
        if (strcmp(subscriptions_at(inherited->filters, i)->text, text) == 0)
            return true;
    return false;
}

static void add_candidate(struct inherited *inherited, const struct buf *text)
{
    char *copy;

    if (inherited->len == CANDIDATES_MAX)
        return;
    copy = xstrndup(text->data, text->len);
    if (is_ours(inherited, copy) || tfind(copy, &inherited->known, compare) != NULL) {
        free(copy);
        return;
    }
    if (tsearch(copy, &inherited->known, compare) == NULL)
        abort(); /* out of memory */
    inherited->candidates[inherited->len++] = copy;
}

/* The first len levels; those whose bit is set in plus as `+`. ends: with `#` behind. */
static void add_variant(struct inherited *inherited, const struct bytes *levels, size_t len,
                        unsigned plus, bool ends)
{
    struct buf text = {0};

    for (size_t i = 0; i < len; i++) {
        if (i > 0)
            buf_append_char(&text, '/');
        buf_append(&text, (plus & 1u << i) != 0 ? BYTES("+") : levels[i]);
    }
    if (ends)
        buf_append_text(&text, len > 0 ? "/#" : "#");
    if (text.len > 0)
        add_candidate(inherited, &text);
    buf_free(&text);
}

void inherited_add(struct inherited *inherited, struct bytes topic)
{
    struct bytes levels[LEVELS_MAX], rest = topic;
    size_t len = 0;
    bool more = true;

    while (more && len < LEVELS_MAX) {
        more = bytes_split(rest, '/', &levels[len], &rest);
        /* Nothing is behind it: a filter that ends so is like one of the levels before. */
        if (!bytes_equal_text(levels[len], "#"))
            len++;
    }
    if (topic.len > LENGTH_MAX)
        return;
    for (size_t prefix = 0; prefix <= len; prefix++)
        for (unsigned plus = 0; plus < 1u << prefix; plus++)
            add_variant(inherited, levels, prefix, plus, true);
    for (unsigned plus = 0; !more && plus < 1u << len; plus++)
        add_variant(inherited, levels, len, plus, false);
}

struct inherited *inherited_new(const struct subscriptions *filters)
{
    struct inherited *made = xcalloc(1, sizeof(*made));

    made->filters = filters;
    made->candidates = xcalloc(CANDIDATES_MAX, sizeof(*made->candidates));
    for (size_t i = 0; i < subscriptions_count(filters); i++) {
        const struct filter *filter = subscriptions_at(filters, i);
        struct bytes text = bytes_of(filter->text), share, name;

        if (filter->shared) {
            bytes_split(text, '/', &share, &text);
            bytes_split(text, '/', &name, &text);
        }
        inherited_add(made, text);
    }
    return made;
}

static void keep(void *candidate)
{
    (void)candidate; /* freed with the list */
}

void inherited_free(struct inherited *inherited)
{
    if (inherited == NULL)
        return;
    tdestroy(inherited->known, keep);
    for (size_t i = 0; i < inherited->len; i++)
        free(inherited->candidates[i]);
    free(inherited->candidates);
    free(inherited);
}

bool inherited_is_full(const struct inherited *inherited)
{
    return inherited->len == CANDIDATES_MAX;
}

size_t inherited_next(struct inherited *inherited, const char **texts, size_t max, size_t max_bytes)
{
    size_t count = 0;

    inherited->last_given = inherited->given;
    while (count < max && inherited->given < inherited->len) {
        const char *text = inherited->candidates[inherited->given];
        size_t size = strlen(text) + 2;

        if (size > max_bytes && count > 0)
            break;
        inherited->given++;
        if (size > max_bytes)
            continue; /* the broker would not take it */
        max_bytes -= size;
        texts[count++] = text;
    }
    return count;
}

void inherited_again(struct inherited *inherited)
{
    inherited->given = inherited->last_given;
}
