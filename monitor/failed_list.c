#include "monitor/failed_list.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"
#include "common/client/failure.h"
#include "common/wire/failed.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

#define BODY_MOST (256 * 1024) /* of a larger message only the headers are shown */
#define TEXT_MOST 500

/* One reading of the list. While a reading is under way, only the thread uses the job. */
struct job {
    struct failure_admin *admin; /* NULL: the settings are wrong */
    struct error err;
    struct buf json;
    cJSON *messages;
    size_t len;
    bool more;
    struct arena arena;
};

struct failed_list {
    struct job *job;      /* NULL: the thread has it */
    struct offload *call; /* NULL: no reading is under way */
    struct buf last;      /* the last result; empty: none yet */
    int64_t asked_ms;     /* when the last reading began */
    int64_t read_ms;      /* when the last reading ended */
};

static void free_job(void *data)
{
    struct job *job = data;

    failure_admin_free(job->admin);
    cJSON_Delete(job->messages);
    buf_free(&job->json);
    arena_free(&job->arena);
    free(job);
}

struct failed_list *failed_list_new(const struct settings_failure *settings)
{
    struct failed_list *list = xcalloc(1, sizeof(*list));

    list->job = xcalloc(1, sizeof(*list->job));
    if (failure_admin_new(&list->job->admin, settings, &list->job->err) < 0)
        list->job->admin = NULL;
    list->asked_ms = -FAILED_LIST_FRESH_MS;
    return list;
}

void failed_list_free(struct failed_list *list)
{
    if (list == NULL)
        return;
    offload_free(list->call);
    if (list->job != NULL)
        free_job(list->job);
    buf_free(&list->last);
    free(list);
}

static void add_text(cJSON *object, const char *name, struct bytes text)
{
    char clean[TEXT_MOST + 1];

    bytes_to_printable(text, clean, sizeof(clean));
    cJSON_AddStringToObject(object, name, clean);
}

static void add_time(cJSON *object, const char *name, int64_t us)
{
    char zoned[CLOCK_UTC_SIZE];

    clock_format_utc(us, zoned);
    cJSON_AddStringToObject(object, name, zoned);
}

static struct bytes reason_of(const struct failed *failed, bool was_read)
{
    if (!was_read && failed->error.len == 0)
        return BYTES("a large message: `mqtt-bridge failed show` shows it");
    return failed_reason(failed);
}

static bool take_message(void *context, const struct failure_message *message)
{
    struct job *job = context;
    struct failed failed;

    if (job->len == FAILED_LIST_MOST) {
        job->more = true;
        return false;
    }
    job->len++;
    arena_clear(&job->arena);
    failed_read(&failed, message->body, message->headers, NULL, NULL, &job->arena);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(job->messages, object);
    add_text(object, "id", message->id);
    if (failed.is_message)
        add_text(object, "topic", failed.envelope.topic);
    else
        cJSON_AddNullToObject(object, "topic");
    add_text(object, "class", failed.class);
    add_text(object, "error", reason_of(&failed, message->body.len > 0));
    add_time(object, "failedAt", message->failed_us);
    cJSON_AddBoolToObject(object, "taken", message->taken);
    return true;
}

static void read_newest(void *data)
{
    const struct failure_query query = {
        .newest_first = true, .limit = FAILED_LIST_MOST + 1, .body_most = BODY_MOST};
    struct job *job = data;
    cJSON *root = cJSON_CreateObject();
    int result = job->admin == NULL ? -1 : 0;

    job->len = 0;
    job->more = false;
    job->messages = cJSON_CreateArray();
    if (result == 0)
        result = job->admin->store->list(job->admin->state, &query, take_message, job, &job->err);
    if (result < 0) {
        add_text(root, "error", bytes_of(job->err.text));
        cJSON_Delete(job->messages);
    } else {
        cJSON_AddItemToObject(root, "messages", job->messages);
        cJSON_AddBoolToObject(root, "more", job->more);
        add_time(root, "readAt", clock_wall_us());
    }
    job->messages = NULL;
    char *text = cJSON_PrintUnformatted(root);
    buf_clear(&job->json);
    buf_printf(&job->json, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(root);
}

static void take_answer(struct failed_list *list, int64_t now_ms)
{
    if (list->call == NULL || !offload_is_done(list->call))
        return;
    list->job = offload_take(list->call);
    list->call = NULL;
    list->read_ms = now_ms;
    buf_clear(&list->last);
    buf_append(&list->last, buf_bytes(&list->job->json));
}

/* Starts a reading unless the last is fresh. If no thread can be started, a later request tries
 * again. */
static void ask(struct failed_list *list, int64_t now_ms)
{
    if (list->call != NULL || now_ms - list->asked_ms < FAILED_LIST_FRESH_MS)
        return;
    list->asked_ms = now_ms;
    list->call = offload_start(read_newest, free_job, list->job);
    if (list->call != NULL)
        list->job = NULL;
}

bool failed_list_write(struct failed_list *list, struct buf *out, int64_t now_ms)
{
    take_answer(list, now_ms);
    ask(list, now_ms);
    if (list->last.len > 0 && now_ms - list->read_ms < FAILED_LIST_KEPT_MS) {
        buf_append(out, buf_bytes(&list->last));
        return true;
    }
    buf_append_text(out, "{\"messages\":null}\n");
    return false;
}
