#include "monitor/last_values.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/queue.h"
#include "common/settings/routes.h"
#include "common/wire/json.h"
#include "common/wire/topic.h"
#include "monitor/request.h"

#include <stdlib.h>
#include <utlist.h>

#define PAGE_BYTES ((size_t)256 * 1024)
/* At most so many steps read a page: with a filter most steps may bring nothing. */
#define SCANS_MAX    50
#define SCAN_COUNT   100
#define DOCUMENT_MAX ((size_t)64 * 1024)       /* workers keep only shorter documents */
#define SCAN_BYTES   ((size_t)4 * 1024 * 1024) /* limit of one step's answer */
#define ASKERS_MAX   16

struct asker {
    struct last_values *values;
    struct request_query query;
    struct buf messages;
    size_t scans;
    int64_t deadline_ms;
    last_values_answer *answer;
    void *context;
    struct asker *next; /* linked by utlist.h */
    struct asker *prev;
};

struct last_values {
    const struct settings *settings;
    struct routes *routes;
    struct queue *queue;
    bool connecting;
    const char *ending;   /* why finish_all ends all waits; NULL: it does not run */
    struct asker *askers; /* ordered by deadline */
    size_t askers_len;
};

int last_values_new(struct last_values **values, const struct settings *settings, struct error *err)
{
    struct last_values *made = xcalloc(1, sizeof(*made));
    int result = queue_new(&made->queue, settings_default_transport(settings), err);

    if (result < 0) {
        free(made);
        return result;
    }
    made->settings = settings;
    made->routes = routes_new(settings);
    *values = made;
    return 0;
}

static void refuse(last_values_answer *answer, void *context, unsigned status, const char *why)
{
    struct buf text = {0}, body = {0};

    json_make_utf8(&text, bytes_of(why));
    buf_append(&body, BYTES("{\"error\":"));
    json_quote(&body, buf_bytes(&text));
    buf_append(&body, BYTES("}\n"));
    buf_free(&text);
    answer(context, status, body);
}

/* Answers the request with the values read, or with the failure `why` if that is not NULL. */
static void finish(struct asker *asker, const char *why)
{
    struct buf body = {0};

    DL_DELETE(asker->values->askers, asker);
    asker->values->askers_len--;
    if (why != NULL) {
        refuse(asker->answer, asker->context, 503, why);
    } else {
        buf_append(&body, BYTES("{\"cursor\":"));
        if (asker->query.cursor != 0) {
            buf_append_char(&body, '"');
            buf_append_u64(&body, asker->query.cursor);
            buf_append_char(&body, '"');
        } else {
            buf_append(&body, BYTES("null"));
        }
        buf_append(&body, BYTES(",\"messages\":["));
        buf_append(&body, buf_bytes(&asker->messages));
        buf_append(&body, BYTES("]}\n"));
        asker->answer(asker->context, 200, body);
    }
    buf_free(&asker->messages);
    free(asker->query.filter);
    free(asker);
}

static void finish_waiting(struct last_values *values, const char *why)
{
    while (values->askers != NULL)
        finish(values->askers, why); // NOLINT(clang-analyzer-unix.Malloc): it is out of the list
}

/* Ends all waits, and closes the connection, whose answers would come too late. */
static void finish_all(struct last_values *values, const char *why)
{
    values->connecting = false;
    values->ending = why;
    queue_disconnect(values->queue);
    values->ending = NULL;
    finish_waiting(values, why);
}

void last_values_free(struct last_values *values)
{
    if (values == NULL)
        return;
    finish_all(values, "the monitor ends");
    queue_free(values->queue);
    routes_free(values->routes);
    free(values);
}

/* True if the value belongs into the answer. Other programs may have written anything into the
 * hash. */
static bool is_wanted(const struct asker *asker, const struct queue_latest *latest)
{
    struct bytes document = latest->document;

    return latest->topic.data != NULL && document.len > 0 && document.len <= DOCUMENT_MAX &&
           document.data != NULL && document.data[0] == '{' &&
           (asker->query.filter == NULL ||
            topic_filter_matches(bytes_of(asker->query.filter), latest->topic)) &&
           routes_match(asker->values->routes, latest->topic)->shows_documents &&
           json_is_valid(document);
}

static void scanned(void *context, int result, uint64_t cursor, const struct queue_latest *latest,
                    size_t len, const struct error *err);

static void scan(struct asker *asker)
{
    asker->scans++;
    queue_scan_latest(asker->values->queue, asker->query.cursor, SCAN_COUNT, SCAN_BYTES, scanned,
                      asker);
}

static void scanned(void *context, int result, uint64_t cursor, const struct queue_latest *latest,
                    size_t len, const struct error *err)
{
    struct asker *asker = context;

    if (result < 0) {
        const char *ending = asker->values->ending;

        finish(asker, ending != NULL ? ending : err->text);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_wanted(asker, &latest[i]))
            continue;
        if (asker->messages.len > 0)
            buf_append(&asker->messages, BYTES(",\n"));
        buf_append(&asker->messages, latest[i].document);
    }
    asker->query.cursor = cursor;
    bool is_late = clock_monotonic_ms() >= asker->deadline_ms - LAST_VALUES_LIMIT_MS / 2;
    if (cursor == 0 || asker->messages.len >= PAGE_BYTES || asker->scans >= SCANS_MAX || is_late)
        finish(asker, NULL);
    else
        scan(asker);
}

static void connected(void *context, int result, const struct error *err)
{
    struct last_values *values = context;
    struct asker *next;

    values->connecting = false;
    if (result < 0) {
        finish_waiting(values, err->text);
        return;
    }
    for (struct asker *asker = values->askers; asker != NULL; asker = next) {
        next = asker->next;
        scan(asker);
    }
}

static void enqueue(struct last_values *values, struct asker *asker)
{
    asker->deadline_ms = clock_monotonic_ms() + LAST_VALUES_LIMIT_MS;
    DL_APPEND(values->askers, asker);
    values->askers_len++;
    if (queue_is_connected(values->queue)) {
        scan(asker);
    } else if (!values->connecting) {
        values->connecting = true;
        queue_connect(values->queue, connected, values);
    }
}

void last_values_ask(struct last_values *values, const char *filter, const char *cursor,
                     last_values_answer *answer, void *context)
{
    struct request_query query;
    struct error err;

    if (values->settings->page.last_values == 0) {
        refuse(answer, context, 404, "[page] last_values is 0: none are kept");
        return;
    }
    if (request_query_read(&query, filter, cursor, &err) < 0) {
        refuse(answer, context, 400, err.text);
        return;
    }
    if (values->askers_len >= ASKERS_MAX) {
        free(query.filter);
        refuse(answer, context, 503, "too many ask at once");
        return;
    }
    struct asker *asker = xcalloc(1, sizeof(*asker));
    *asker = (struct asker){.values = values, .query = query, .answer = answer, .context = context};
    enqueue(values, asker);
}

struct pollfd last_values_poll(const struct last_values *values)
{
    int fd = queue_fd(values->queue);

    return (struct pollfd){.fd = fd, .events = fd >= 0 ? queue_events(values->queue) : 0};
}

int64_t last_values_deadline(const struct last_values *values)
{
    int64_t deadline = queue_deadline_ms(values->queue);

    return values->askers != NULL ? clock_earlier_ms(deadline, values->askers->deadline_ms)
                                  : deadline;
}

/* Ends all waits if the first is overdue. A server that misses one answer will miss all, so that
 * the connection is renewed. */
static void fail_if_overdue(struct last_values *values)
{
    if (values->askers == NULL || clock_monotonic_ms() < values->askers->deadline_ms)
        return;
    struct buf why = {0};
    buf_printf(&why, "%s: no answer within %d s", queue_address(values->queue),
               LAST_VALUES_LIMIT_MS / 1000);
    finish_all(values, buf_text(&why));
    buf_free(&why);
}

void last_values_process(struct last_values *values, short revents)
{
    queue_process(values->queue, revents);
    fail_if_overdue(values);
}
