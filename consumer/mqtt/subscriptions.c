#include "consumer/mqtt/subscriptions.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/wire/topic.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADING       "mqtt-bridge subscriptions 2"
#define HEADING_START "mqtt-bridge subscriptions "
#define REFUSED       0x80

struct filter_list {
    struct filter *at;
    size_t len;
};

struct subscriptions {
    char *brokers;      /* the servers of the settings */
    bool other_brokers; /* the file was written for other servers */
    char *path;
    struct filter_list wanted;
    struct filter_list gone;
    const char *former; /* the setting former_topics */
    char *former_done;  /* former_topics as handled; NULL: no known session */
    bool accepted_5;
    bool connecting;  /* a CONNECT is outstanding */
    struct buf saved; /* the file's content */
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

static void list_remove(struct filter_list *list, struct filter *filter)
{
    free(filter->text);
    *filter = list->at[list->len - 1];
    list->len--;
}

static void list_free(struct filter_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        free(list->at[i].text);
    free(list->at);
    *list = (struct filter_list){0};
}

static struct filter make_filter(struct bytes text, int qos)
{
    return (struct filter){.text = xstrndup(text.data, text.len),
                           .qos = qos,
                           .granted = -1,
                           .shared = bytes_starts_with(text, BYTES("$share/"))};
}

static bool is_covered(const struct filter *filter, const struct filter *by)
{
    return topic_filter_subsumes(bytes_of(by->text), by->qos, bytes_of(filter->text), filter->qos);
}

static void add_wanted(struct filter_list *wanted, struct filter filter)
{
    for (size_t i = 0; i < wanted->len; i++)
        if (is_covered(&filter, &wanted->at[i])) {
            free(filter.text);
            return;
        }
    for (size_t i = wanted->len; i > 0; i--)
        if (is_covered(&wanted->at[i - 1], &filter))
            list_remove(wanted, &wanted->at[i - 1]);
    list_add(wanted, filter);
}

static int read_settings(struct subscriptions *filters, const struct settings_mqtt *settings,
                         struct error *err)
{
    struct bytes rest = bytes_of(settings->topics), text;
    int qos, more;

    while ((more = topic_filter_next(&rest, &text, &qos, (int)settings->qos, err)) > 0)
        add_wanted(&filters->wanted, make_filter(text, qos));
    if (more < 0) {
        err->code = ERR_USAGE;
        return error_wrap(err, "topics");
    }
    if (filters->wanted.len == 0)
        return error_set(err, ERR_USAGE, "topics: there is no filter in \"%s\"", settings->topics);
    return 0;
}

/* Appends the filters. While a CONNECT is outstanding nothing counts as granted: the next
 * process may not hear of its answer. */
static void write_filters(struct buf *out, const struct filter_list *list, bool connecting)
{
    for (size_t i = 0; i < list->len; i++)
        buf_printf(out, "%s %d %d %s\n",
                   list->at[i].granted >= 0 && !connecting ? "granted" : "asked", list->at[i].qos,
                   list->at[i].granted, list->at[i].text);
}

static void write_text(struct buf *out, const struct subscriptions *filters)
{
    buf_printf(out, HEADING "\nat %s\n", filters->brokers);
    if (filters->former_done != NULL)
        buf_printf(out, "former %s\n", filters->former_done);
    if (filters->accepted_5)
        buf_printf(out, "accepts-5\n");
    write_filters(out, &filters->wanted, filters->connecting);
    write_filters(out, &filters->gone, filters->connecting);
}

static bool read_filter(struct subscriptions *filters, const char *line)
{
    struct filter read = {0};
    char state[8];
    int at = 0;

    if (sscanf(line, "%7s %d %d %n", state, &read.qos, &read.granted, &at) != 3 || at == 0 ||
        line[at] == '\0')
        return false;
    struct filter *wanted = list_find(&filters->wanted, line + at);
    if (wanted == NULL) {
        read.text = xstrdup(line + at);
        list_add(&filters->gone, read);
    } else if (strcmp(state, "granted") == 0 && read.qos == wanted->qos) {
        wanted->granted = read.granted;
    } /* else the filter was granted with another QoS than the settings have */
    return true;
}

static void set_former_done(struct subscriptions *filters, const char *text)
{
    free(filters->former_done);
    filters->former_done = text != NULL ? xstrdup(text) : NULL;
}

static bool read_line(struct subscriptions *filters, const char *line)
{
    if (strncmp(line, "at ", 3) == 0)
        filters->other_brokers = strcmp(line + 3, filters->brokers) != 0;
    else if (strncmp(line, "former ", 7) == 0)
        set_former_done(filters, line + 7);
    else if (strncmp(line, "accepts-5", 9) == 0)
        filters->accepted_5 = true;
    else
        return read_filter(filters, line);
    return true;
}

static void forget_all(struct subscriptions *filters)
{
    subscriptions_not_connected(filters, true);
    list_free(&filters->gone);
}

/* Reads the file. An unreadable file counts as missing. If another version of mqtt-bridge wrote
 * the file, the session is still the bridge's. */
static void read_file(struct subscriptions *filters)
{
    FILE *file = fopen(filters->path, "re");
    char *line = NULL;
    size_t size = 0;
    bool good = false, ours = false;

    if (file == NULL)
        return;
    for (int number = 0; getline(&line, &size, file) > 0; number++) {
        line[strcspn(line, "\n")] = '\0';
        if (number == 0)
            ours = strncmp(line, HEADING_START, strlen(HEADING_START)) == 0;
        good = number == 0 ? strcmp(line, HEADING) == 0 : good && read_line(filters, line);
    }
    if (!good) {
        forget_all(filters);
        filters->accepted_5 = false;
        set_former_done(filters, ours ? "" : NULL);
    } else if (filters->other_brokers) { /* another program may have made the session there */
        subscriptions_not_connected(filters, true);
        filters->accepted_5 = false;
        set_former_done(filters, NULL);
    }
    free(line);
    fclose(file);
}

int subscriptions_save(struct subscriptions *filters, struct error *err)
{
    struct buf text = {0};
    int result = 0;

    write_text(&text, filters);
    if (text.len == filters->saved.len && memcmp(text.data, filters->saved.data, text.len) == 0) {
        buf_free(&text);
        return 0;
    }
    buf_free(&filters->saved);
    if (file_replace(AT_FDCWD, filters->path, buf_bytes(&text), 0640, true) == 0) {
        filters->saved = text;
    } else {
        result = error_system(err, "%s", filters->path);
        unlink(filters->path);
        buf_free(&text);
    }
    return result;
}

int subscriptions_new(struct subscriptions **filters, const struct settings_mqtt *settings,
                      const char *path, struct error *err)
{
    struct subscriptions *made = xcalloc(1, sizeof(*made));
    int result = read_settings(made, settings, err);

    if (result < 0) {
        subscriptions_free(made);
        return result;
    }
    made->path = xstrdup(path);
    made->former = settings->former_topics;
    made->brokers = settings->server_uris[0] != '\0'
                        ? xstrdup(settings->server_uris)
                        : xasprintf("%s:%" PRId64, settings->host, settings->port);
    read_file(made);
    *filters = made;
    return 0;
}

void subscriptions_free(struct subscriptions *filters)
{
    if (filters == NULL)
        return;
    list_free(&filters->wanted);
    list_free(&filters->gone);
    free(filters->former_done);
    buf_free(&filters->saved);
    free(filters->path);
    free(filters->brokers);
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

const char *subscriptions_refused(const struct subscriptions *filters, int *code)
{
    for (size_t i = 0; i < filters->wanted.len; i++) {
        *code = filters->wanted.at[i].refusal;
        if (*code != 0)
            return filters->wanted.at[i].text;
    }
    return NULL;
}

bool subscriptions_all_granted(const struct subscriptions *filters)
{
    for (size_t i = 0; i < filters->wanted.len; i++)
        if (filters->wanted.at[i].granted < 0)
            return false;
    return true;
}

bool subscriptions_match(const struct subscriptions *filters, struct bytes topic)
{
    for (size_t i = 0; i < filters->wanted.len; i++)
        if (topic_filter_matches(bytes_of(filters->wanted.at[i].text), topic))
            return true;
    return false;
}

void subscriptions_connecting(struct subscriptions *filters)
{
    filters->connecting = true;
}

void subscriptions_not_connected(struct subscriptions *filters, bool unanswered)
{
    filters->connecting = false;
    for (size_t i = 0; i < filters->wanted.len && unanswered; i++)
        filters->wanted.at[i].granted = -1;
}

static void add_former(struct subscriptions *filters)
{
    struct bytes rest = bytes_of(filters->former), text;
    struct error err; /* `check` has reported faults */
    int qos;

    while (topic_filter_next(&rest, &text, &qos, 0, &err) > 0) {
        struct filter former = {.text = xstrndup(text.data, text.len)};

        if (list_find(&filters->wanted, former.text) == NULL &&
            list_find(&filters->gone, former.text) == NULL)
            list_add(&filters->gone, former);
        else
            free(former.text);
    }
}

void subscriptions_connected(struct subscriptions *filters, bool session_present)
{
    bool is_due =
        filters->former_done == NULL || strcmp(filters->former_done, filters->former) != 0;

    filters->connecting = false;
    if (!session_present)
        forget_all(filters);
    else if (is_due)
        add_former(filters);
    set_former_done(filters, filters->former);
}

void subscriptions_answer(struct subscriptions *filters, size_t index, int code)
{
    struct filter *filter = &filters->wanted.at[index];

    filter->refusal = code >= REFUSED ? code : 0;
    filter->granted = code >= REFUSED ? -1 : code;
}

const char *subscriptions_gone_at(const struct subscriptions *filters, size_t index)
{
    return index < filters->gone.len ? filters->gone.at[index].text : NULL;
}

void subscriptions_forget_gone(struct subscriptions *filters, const char *text)
{
    struct filter *gone = list_find(&filters->gone, text);

    if (gone != NULL)
        list_remove(&filters->gone, gone);
}

bool subscriptions_has_session(const struct subscriptions *filters)
{
    return filters->former_done != NULL;
}

bool subscriptions_accepted_5(const struct subscriptions *filters)
{
    return filters->accepted_5;
}

void subscriptions_note_5(struct subscriptions *filters)
{
    filters->accepted_5 = true;
}
