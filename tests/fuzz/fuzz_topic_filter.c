/* Filter a, filter b, topic, a line each. Matching agrees with the definition written the slow way. If a covers b, it
 * matches whatever b matches. If both match, they overlap. The whole input is read as a list as well. */
#include "common/wire/topic.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Levels one by one, from the definition in section 4.7.1. */
static bool matches_levels(struct bytes filter, bool filter_more, struct bytes topic,
                           bool topic_more)
{
    struct bytes wanted, level;

    if (!filter_more)
        return !topic_more;
    filter_more = bytes_split(filter, '/', &wanted, &filter);
    if (bytes_equal_text(wanted, "#"))
        return true;
    if (!topic_more)
        return false;
    topic_more = bytes_split(topic, '/', &level, &topic);
    if (!bytes_equal_text(wanted, "+") && !bytes_equal(wanted, level))
        return false;
    return matches_levels(filter, filter_more, topic, topic_more);
}

static bool matches(struct bytes filter, struct bytes topic)
{
    bool wildcard = filter.data[0] == '#' || filter.data[0] == '+';

    if (topic.data[0] == '$' && wildcard)
        return false;
    return matches_levels(filter, true, topic, true);
}

static void read_list(struct bytes list)
{
    struct bytes filter;
    struct error err = {0};
    size_t taken = 0;
    int qos, more;

    for (struct bytes rest = list; (more = topic_filter_next(&rest, &filter, &qos, 1, &err)) > 0;) {
        require(qos >= 0 && qos <= 2);
        require(topic_filter_check(filter, NULL) == 0);
        require(filter.data >= list.data && filter.data + filter.len <= list.data + list.len);
        taken += filter.len;
        require(taken <= list.len);
    }
    require(more == 0 || err.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes a, b, topic, rest = {(const char *)data, size};
    struct error err;

    read_list(rest);
    bytes_split(rest, '\n', &a, &rest);
    bytes_split(rest, '\n', &b, &topic);
    if (size > 4096 || topic_filter_check(a, &err) < 0 || topic_filter_check(b, &err) < 0 ||
        topic_name_check(topic, &err) < 0)
        return 0;
    require(topic_filter_covers(a, a) && topic_filter_covers(b, b));
    if (!bytes_starts_with(a, BYTES("$share/")))
        require(topic_filter_matches(a, topic) == matches(a, topic));
    if (topic_filter_covers(a, b) && topic_filter_matches(b, topic))
        require(topic_filter_matches(a, topic));
    require(topic_filter_overlaps(a, b) == topic_filter_overlaps(b, a));
    if (topic_filter_covers(a, b) ||
        (topic_filter_matches(a, topic) && topic_filter_matches(b, topic)))
        require(topic_filter_overlaps(a, b));
    return 0;
}
