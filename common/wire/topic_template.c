#include "common/wire/topic_template.h"

#include "common/base/alloc.h"
#include "common/wire/update.h"

#include <stdlib.h>
#include <string.h>

/* No topic has more levels. */
#define NUMBER_MAX 65535

enum part_kind { PART_TEXT, PART_TOPIC, PART_WILDCARD, PART_LEVEL, PART_LEVEL_FROM_END };

struct part {
    enum part_kind kind;
    bool uri;
    unsigned number; /* of a wildcard or level, from 1 */
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

/* name: what stands between the braces. */
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

/* *rest begins with the brace that opens the placeholder, `at` bytes into the template. */
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

/* The n-th level from 1. */
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

/* The n-th level from 1, counted from the end. */
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

/* What the n-th wildcard of the filter, from 1, took of the topic. */
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
