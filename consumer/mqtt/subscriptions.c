#include "consumer/mqtt/subscriptions.h"

#include "common/base/alloc.h"
#include "common/wire/topic_filter.h"

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
    char *brokers;      /* of the settings */
    bool other_brokers; /* the file was written for others */
    char *path;
    struct filter_list wanted;
    struct filter_list gone;
    struct filter_list servers; /* text: host:port of those that have accepted MQTT 5 */
    enum session_origin origin;
    bool connecting;  /* a CONNECT is outstanding */
    struct buf saved; /* what the file holds */
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

/* The settings ------------------------------------------------------------------------------------ */

static struct filter make_filter(const struct settings_mqtt *settings, struct bytes text, int qos)
{
    bool given = bytes_starts_with(text, BYTES("$share/"));
    bool shared = given || settings->share_name[0] != '\0';
    struct filter filter = {.qos = qos, .shared = shared};

    if (shared && !given)
        filter.text = xasprintf("$share/%s/%.*s", settings->share_name, BYTES_ARG(text));
    else
        filter.text = xstrndup(text.data, text.len);
    return filter;
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
        add_wanted(&filters->wanted, make_filter(settings, text, qos));
    if (more < 0) {
        err->code = ERR_USAGE;
        return error_wrap(err, "topics");
    }
    if (filters->wanted.len == 0)
        return error_set(err, ERR_USAGE, "topics: there is no filter in \"%s\"", settings->topics);
    return 0;
}

/* The file ---------------------------------------------------------------------------------------- */

static const char *const ORIGINS[] = {"unknown", "examined", "ours"};

static void write_filter(struct buf *out, const struct filter *filter)
{
    if (filter->state == FILTER_GRANTED)
        buf_printf(out, "granted %d %d %s\n", filter->qos, filter->granted, filter->text);
    else if (filter->state == FILTER_ASKED)
        buf_printf(out, "asked %d 0 %s\n", filter->qos, filter->text);
}

static void write_text(struct buf *out, const struct subscriptions *filters)
{
    buf_printf(out, HEADING "\nsession %s\nat %s\n", ORIGINS[filters->origin], filters->brokers);
    if (filters->connecting)
        buf_printf(out, "connecting\n");
    for (size_t i = 0; i < filters->servers.len; i++)
        buf_printf(out, "accepts-5 %s\n", filters->servers.at[i].text);
    for (size_t i = 0; i < filters->wanted.len; i++)
        write_filter(out, &filters->wanted.at[i]);
    for (size_t i = 0; i < filters->gone.len; i++)
        write_filter(out, &filters->gone.at[i]);
}

static bool read_filter(struct subscriptions *filters, const char *line)
{
    struct filter read = {.state = FILTER_ASKED};
    char state[8];
    int at = 0;

    if (sscanf(line, "%7s %d %d %n", state, &read.qos, &read.granted, &at) != 3 || at == 0 ||
        line[at] == '\0')
        return false;
    struct filter *wanted = list_find(&filters->wanted, line + at);
    if (strcmp(state, "granted") == 0)
        read.state = FILTER_GRANTED;
    if (wanted == NULL) {
        read.text = xstrdup(line + at);
        list_add(&filters->gone, read);
    } else {
        /* Granted with what is no longer asked for: to be asked again. */
        wanted->state = read.qos == wanted->qos ? read.state : FILTER_ASKED;
        wanted->granted = read.granted;
    }
    return true;
}

static bool read_line(struct subscriptions *filters, const char *line)
{
    if (strncmp(line, "at ", 3) == 0) {
        filters->other_brokers = strcmp(line + 3, filters->brokers) != 0;
        return true;
    }
    if (strcmp(line, "connecting") == 0) {
        filters->connecting = true;
        return true;
    }
    if (strncmp(line, "accepts-5 ", 10) == 0) {
        subscriptions_note_5(filters, line + 10);
        return true;
    }
    for (size_t i = 0; i < sizeof(ORIGINS) / sizeof(ORIGINS[0]); i++)
        if (strncmp(line, "session ", 8) == 0 && strcmp(line + 8, ORIGINS[i]) == 0) {
            filters->origin = (enum session_origin)i;
            return true;
        }
    return read_filter(filters, line);
}

static void forget_all(struct subscriptions *filters)
{
    for (size_t i = 0; i < filters->wanted.len; i++) {
        filters->wanted.at[i].state = FILTER_NONE;
        filters->wanted.at[i].refusal = 0;
    }
    list_free(&filters->gone);
}

/* A file that can't be understood counts as none. Of another version, the session is ours all the same. */
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
        list_free(&filters->servers);
        filters->origin = ours ? ORIGIN_OURS : ORIGIN_UNKNOWN;
    } else if (filters->other_brokers) {
        /* Granted by another broker, which may have a session of ours, or somebody else's. */
        subscriptions_not_connected(filters, true);
        filters->origin = ORIGIN_UNKNOWN;
    } else if (filters->connecting) {
        subscriptions_not_connected(filters, true);
    }
    free(line);
    fclose(file);
}

static bool sync_folder(const char *path)
{
    char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    free(folder);
    return good;
}

static bool write_file(const struct subscriptions *filters, const char *path,
                       const struct buf *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool good = fd >= 0 && write(fd, text->data, text->len) == (ssize_t)text->len &&
                fsync(fd) == 0 && rename(path, filters->path) == 0;

    if (fd >= 0)
        close(fd);
    return good && sync_folder(path);
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
    char *new_path = xasprintf("%s.new", filters->path);
    buf_free(&filters->saved);
    if (write_file(filters, new_path, &text)) {
        filters->saved = text;
    } else {
        result = error_system(err, "%s", filters->path);
        unlink(new_path);
        unlink(filters->path);
        buf_free(&text);
    }
    free(new_path);
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
    list_free(&filters->servers);
    buf_free(&filters->saved);
    free(filters->path);
    free(filters->brokers);
    free(filters);
}

/* Filters ----------------------------------------------------------------------------------------- */

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
        if (filters->wanted.at[i].state != FILTER_GRANTED)
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
    if (filters->connecting) /* the answer to the former attempt was never seen */
        subscriptions_not_connected(filters, true);
    filters->connecting = true;
}

void subscriptions_not_connected(struct subscriptions *filters, bool unanswered)
{
    filters->connecting = false;
    for (size_t i = 0; i < filters->wanted.len; i++)
        if (unanswered && filters->wanted.at[i].state == FILTER_GRANTED)
            filters->wanted.at[i].state = FILTER_ASKED;
}

void subscriptions_connected(struct subscriptions *filters, bool session_present)
{
    filters->connecting = false;
    if (session_present)
        return;
    forget_all(filters);
    filters->origin = ORIGIN_OURS;
}

void subscriptions_ask(struct subscriptions *filters)
{
    for (size_t i = 0; i < filters->wanted.len; i++) {
        filters->wanted.at[i].refusal = 0;
        if (filters->wanted.at[i].state == FILTER_NONE)
            filters->wanted.at[i].state = FILTER_ASKED;
    }
}

void subscriptions_answer(struct subscriptions *filters, size_t index, int code)
{
    struct filter *filter = &filters->wanted.at[index];

    filter->refusal = code >= REFUSED ? code : 0;
    filter->state = code >= REFUSED ? FILTER_ASKED : FILTER_GRANTED;
    filter->granted = code;
}

size_t subscriptions_gone_count(const struct subscriptions *filters)
{
    return filters->gone.len;
}

const char *subscriptions_gone_at(const struct subscriptions *filters, size_t index)
{
    return filters->gone.at[index].text;
}

void subscriptions_forget_gone(struct subscriptions *filters, const char *text)
{
    struct filter *gone = list_find(&filters->gone, text);

    if (gone != NULL)
        list_remove(&filters->gone, gone);
}

/* The session ------------------------------------------------------------------------------------- */

enum session_origin subscriptions_origin(const struct subscriptions *filters)
{
    return filters->origin;
}

void subscriptions_set_examined(struct subscriptions *filters)
{
    filters->origin = ORIGIN_EXAMINED;
}

bool subscriptions_accepts_5(const struct subscriptions *filters, const char *place)
{
    return list_find(&filters->servers, place) != NULL;
}

void subscriptions_note_5(struct subscriptions *filters, const char *place)
{
    if (!subscriptions_accepts_5(filters, place))
        list_add(&filters->servers, (struct filter){.text = xstrdup(place)});
}
