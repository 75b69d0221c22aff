#include "consumer/mqtt/subscriptions.h"

#include "common/base/alloc.h"
#include "common/base/random.h"
#include "common/wire/topic_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADING "mqtt-bridge subscriptions 1"
/* MQTT allows 1 to 268,435,455. */
#define ID_MAX 268000000u

struct filter_list {
    struct filter *at;
    size_t len;
};

struct subscriptions {
    char *path;
    struct filter_list wanted;
    struct filter_list stale;
    uint32_t next_id; /* the first that no set has used */
    bool known;       /* `wanted` is the set that the file had */
};

static struct filter *list_find(const struct filter_list *list, const char *text)
{
    for (size_t i = 0; i < list->len; i++)
        if (strcmp(list->at[i].text, text) == 0)
            return &list->at[i];
    return NULL;
}

static void list_add(struct filter_list *list, struct filter filter)
{
    list->at = xrealloc(list->at, (list->len + 1) * sizeof(*list->at));
    list->at[list->len++] = filter;
}

static void list_free(struct filter_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        free(list->at[i].text);
    free(list->at);
    *list = (struct filter_list){0};
}

static struct filter make_filter(const struct settings_mqtt *settings, struct bytes text, int qos)
{
    bool given = bytes_starts_with(text, BYTES("$share/"));
    bool shared = given || settings->share_name[0] != '\0';
    struct filter filter = {.qos = qos, .granted = FILTER_REFUSED, .shared = shared};

    if (shared && !given)
        filter.text = xasprintf("$share/%s/%.*s", settings->share_name, BYTES_ARG(text));
    else
        filter.text = xstrndup(text.data, text.len);
    return filter;
}

static int read_settings(struct subscriptions *filters, const struct settings_mqtt *settings,
                         struct error *err)
{
    struct bytes rest = bytes_of(settings->topics), text;
    int qos, more;

    while ((more = topic_filter_next(&rest, &text, &qos, (int)settings->qos, err)) > 0) {
        struct filter filter = make_filter(settings, text, qos);
        struct filter *same = list_find(&filters->wanted, filter.text);

        if (same == NULL) {
            list_add(&filters->wanted, filter);
            continue;
        }
        same->qos = same->qos < qos ? qos : same->qos;
        free(filter.text);
    }
    if (more < 0) {
        err->code = ERR_USAGE;
        return error_wrap(err, "topics");
    }
    if (filters->wanted.len == 0)
        return error_set(err, ERR_USAGE, "topics: there is no filter in \"%s\"", settings->topics);
    return 0;
}

/* Highest QoS first, else in the settings' order: a copy of higher QoS is never dropped for one that
 * the broker may have left out. */
static void sort_by_qos(struct filter_list *list)
{
    for (size_t i = 1; i < list->len; i++) {
        struct filter moved = list->at[i];
        size_t to = i;

        for (; to > 0 && list->at[to - 1].qos < moved.qos; to--)
            list->at[to] = list->at[to - 1];
        list->at[to] = moved;
    }
}

/* "ID QOS GRANTED FILTER" for one of the set, "- FILTER" for one that is to be unsubscribed. */
static bool read_line(char *line, struct filter_list *set, struct filter_list *stale)
{
    struct filter filter = {0};
    int at = 0;

    if (line[0] == '-' && line[1] == ' ') {
        filter.text = xstrdup(line + 2);
        list_add(stale, filter);
        return true;
    }
    if (sscanf(line, "%" SCNu32 " %d %d %n", &filter.id, &filter.qos, &filter.granted, &at) != 3 ||
        at == 0 || line[at] == '\0')
        return false;
    filter.text = xstrdup(line + at);
    list_add(set, filter);
    return true;
}

/* A file that can't be understood counts as none: then everything is subscribed anew. */
static void read_file(struct subscriptions *filters, struct filter_list *set)
{
    FILE *file = fopen(filters->path, "re");
    char *line = NULL;
    size_t size = 0;
    bool good = false;

    if (file == NULL)
        return;
    for (int number = 0; getline(&line, &size, file) > 0; number++) {
        line[strcspn(line, "\n")] = '\0';
        if (number == 0)
            good = strcmp(line, HEADING) == 0;
        else if (number == 1)
            good = good && sscanf(line, "next %" SCNu32, &filters->next_id) == 1;
        else
            good = good && read_line(line, set, &filters->stale);
    }
    if (!good) {
        list_free(set);
        list_free(&filters->stale);
        filters->next_id = 0;
    }
    free(line);
    fclose(file);
}

static bool is_same_set(const struct filter_list *a, const struct filter_list *b)
{
    if (a->len != b->len)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (strcmp(a->at[i].text, b->at[i].text) != 0 || a->at[i].qos != b->at[i].qos)
            return false;
    return true;
}

static void take_new_ids(struct subscriptions *filters)
{
    /* Without a file the session may still hold another set's identifiers: begin somewhere else. */
    if (filters->next_id == 0)
        filters->next_id = 1 + (uint32_t)(random_u64() % (ID_MAX / 2));
    if (filters->next_id > ID_MAX - filters->wanted.len)
        filters->next_id = 1;
    for (size_t i = 0; i < filters->wanted.len; i++)
        filters->wanted.at[i].id = filters->next_id++;
}

static void compare_with_file(struct subscriptions *filters, struct filter_list *set)
{
    struct filter_list before = filters->stale;

    filters->stale = (struct filter_list){0};
    filters->known = is_same_set(&filters->wanted, set);
    for (size_t i = 0; i < set->len; i++) {
        if (filters->known) {
            filters->wanted.at[i].id = set->at[i].id;
            filters->wanted.at[i].granted = set->at[i].granted;
        }
        if (list_find(&filters->wanted, set->at[i].text) == NULL)
            list_add(&filters->stale, (struct filter){.text = xstrdup(set->at[i].text)});
    }
    for (size_t i = 0; i < before.len; i++)
        if (list_find(&filters->wanted, before.at[i].text) == NULL)
            list_add(&filters->stale, (struct filter){.text = xstrdup(before.at[i].text)});
    if (!filters->known)
        take_new_ids(filters);
    list_free(&before);
}

int subscriptions_new(struct subscriptions **filters, const struct settings_mqtt *settings,
                      const char *path, struct error *err)
{
    struct subscriptions *made = xcalloc(1, sizeof(*made));
    struct filter_list set = {0};
    int result = read_settings(made, settings, err);

    if (result < 0) {
        subscriptions_free(made);
        return result;
    }
    made->path = xstrdup(path);
    sort_by_qos(&made->wanted);
    read_file(made, &set);
    compare_with_file(made, &set);
    list_free(&set);
    *filters = made;
    return 0;
}

void subscriptions_free(struct subscriptions *filters)
{
    if (filters == NULL)
        return;
    list_free(&filters->wanted);
    list_free(&filters->stale);
    free(filters->path);
    free(filters);
}

size_t subscriptions_count(const struct subscriptions *filters)
{
    return filters->wanted.len;
}

const struct filter *subscriptions_at(const struct subscriptions *filters, size_t index)
{
    return &filters->wanted.at[index];
}

size_t subscriptions_stale_count(const struct subscriptions *filters)
{
    return filters->stale.len;
}

const char *subscriptions_stale_at(const struct subscriptions *filters, size_t index)
{
    return filters->stale.at[index].text;
}

void subscriptions_forget_stale(struct subscriptions *filters)
{
    list_free(&filters->stale);
}

bool subscriptions_are_known(const struct subscriptions *filters)
{
    for (size_t i = 0; i < filters->wanted.len; i++)
        if (filters->wanted.at[i].granted == FILTER_REFUSED)
            return false;
    return filters->known;
}

void subscriptions_granted(struct subscriptions *filters, size_t index, int qos_or_refused)
{
    filters->wanted.at[index].granted = qos_or_refused;
}

bool subscriptions_keep(const struct subscriptions *filters, struct bytes topic,
                        const uint32_t *ids, size_t ids_len)
{
    size_t first = filters->wanted.len;

    for (size_t i = 0; i < ids_len; i++)
        for (size_t at = 0; at < first; at++)
            if (filters->wanted.at[at].id == ids[i])
                first = at;
    /* Of no filter that we know: a former set's, whose other copies nobody can tell. */
    if (first == filters->wanted.len || filters->wanted.at[first].shared)
        return true;
    for (size_t at = 0; at < first; at++) {
        const struct filter *earlier = &filters->wanted.at[at];

        if (!earlier->shared && earlier->granted != FILTER_REFUSED &&
            topic_filter_matches(bytes_of(earlier->text), topic))
            return false;
    }
    return true;
}

static void write_file(struct buf *out, const struct subscriptions *filters)
{
    buf_printf(out, HEADING "\nnext %" PRIu32 "\n", filters->next_id);
    for (size_t i = 0; i < filters->wanted.len; i++) {
        const struct filter *filter = &filters->wanted.at[i];

        buf_printf(out, "%" PRIu32 " %d %d %s\n", filter->id, filter->qos, filter->granted,
                   filter->text);
    }
    for (size_t i = 0; i < filters->stale.len; i++)
        buf_printf(out, "- %s\n", filters->stale.at[i].text);
}

int subscriptions_save(struct subscriptions *filters, struct error *err)
{
    char *new_path = xasprintf("%s.new", filters->path);
    struct buf text = {0};
    int result = 0;
    int fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

    write_file(&text, filters);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len || fsync(fd) < 0 ||
        rename(new_path, filters->path) < 0)
        result = error_system(err, "%s", filters->path);
    else
        filters->known = true;
    if (fd >= 0)
        close(fd);
    buf_free(&text);
    free(new_path);
    return result;
}
