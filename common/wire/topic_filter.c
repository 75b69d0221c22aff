#include "common/wire/topic_filter.h"

#include <string.h>

#define SHARE_PREFIX "$share/"

static bool contains(struct bytes text, char c)
{
    return text.len > 0 && memchr(text.data, c, text.len) != NULL;
}

static bool is_wildcard(struct bytes level, char wildcard)
{
    return level.len == 1 && level.data[0] == wildcard;
}

/* What names and filters have in common: sections 4.7.3 and 1.5.4. */
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

/* A shared subscription's own filter: what is behind "$share/NAME/". Everything else is itself. */
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

bool topic_filter_matches(struct bytes filter, struct bytes topic)
{
    bool filter_more = true, topic_more = true;

    filter = without_share(filter);
    /* Section 4.7.2: a wildcard in front does not see the server's own topics. */
    if (topic.len > 0 && topic.data[0] == '$' && filter.len > 0 && filter.data[0] != '$')
        return false;
    while (filter_more) {
        struct bytes filter_level, topic_level;

        filter_more = bytes_split(filter, '/', &filter_level, &filter);
        if (is_wildcard(filter_level, '#'))
            return true; /* also with no level left: "a/#" matches "a" */
        if (!topic_more)
            return false;
        topic_more = bytes_split(topic, '/', &topic_level, &topic);
        if (!is_wildcard(filter_level, '+') && !bytes_equal(filter_level, topic_level))
            return false;
    }
    return !topic_more;
}

bool topic_filter_covers(struct bytes a, struct bytes b)
{
    bool a_more = true, b_more = true;

    a = without_share(a);
    b = without_share(b);
    /* At the top, where there is always one level, "+" and "#" behind it is no less than "#". */
    if (bytes_equal_text(a, "+/#"))
        a = BYTES("#");
    if (b.len > 0 && b.data[0] == '$' && a.len > 0 && a.data[0] != '$')
        return false;
    while (a_more) {
        struct bytes a_level, b_level;

        a_more = bytes_split(a, '/', &a_level, &a);
        if (is_wildcard(a_level, '#'))
            return true;
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

/* Takes a number behind the last `@` away from the word. An `@` with anything else belongs to the
 * filter: devices have addresses. */
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
