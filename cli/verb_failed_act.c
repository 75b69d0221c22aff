/* The actions failed retry and failed remove.
 *
 * First the ids and times of the wanted messages are read and sorted, so that a topic's messages are sent in order.
 * Then they are taken, sent and removed in batches. A sender may die after sending a message and before removing its
 * row. A guard in Redis, of the message's id and time, prevents a second sending. */
#include "cli/redriver.h"
#include "cli/verb_failed.h"
#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/client/queue.h"
#include "common/wire/envelope.h"
#include "common/wire/stamp.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH_MOST       200
#define BATCH_BYTES_MOST (16 * 1024 * 1024)
#define BATCHES_A_SECOND 10 /* batches that --rate is divided into */
#define ERRORS_SHOWN     10
#define BAR_COLUMNS      30
#define BAR_EVERY_MS     100

enum state {
    UNTOUCHED, /* gone meanwhile, or another process has the message */
    READY,     /* taken; item->value holds the stream entry */
    SENT,
    REMOVED,
    FAILED,
};

struct item {
    char *id;
    int64_t came_us; /* orders the messages of a topic */
    size_t size;
    enum state state;
    struct redriver_transport *transport;
    char *guard;
    struct buf value;
    struct redriver_message message;
};

struct action {
    const struct cli *cli;
    const struct verb_failed_wanted *wanted;
    struct failure_admin *admin;
    struct redriver *redriver; /* NULL: the action is remove */
    struct arena arena;
    struct item *items;
    size_t len;
    size_t batch; /* index of the batch's first item */
    size_t batch_end;
    size_t in_hand; /* messages left to the PHP workers that hold them */
    size_t gone;    /* gone before their removal: of a stream nothing is locked */
    int64_t done;
    int64_t before; /* how many of `done` an earlier run had sent */
    int64_t errors;
    cJSON *told; /* the errors, for --json */
    int64_t started_ms;
    int64_t drawn_ms; /* when the bar was drawn; 0: never */
    bool stopped;     /* a server failed: nothing more is sent */
};

static const char *name_of(const struct action *action)
{
    return action->redriver != NULL ? "retry" : "remove";
}

static bool collect(void *context, const struct failure_message *message)
{
    struct action *action = context;
    struct failed failed;

    arena_clear(&action->arena);
    if (verb_failed_needs_body(action->wanted)) {
        failed_read(&failed, message->body, message->headers, NULL, NULL, &action->arena);
        if (!verb_failed_is_wanted(action->wanted, &failed))
            return true;
    }
    if (message->taken && !action->wanted->taken_too) {
        action->in_hand++;
        return true;
    }
    int64_t came_us = failed_came_us(message->headers, &action->arena);
    if ((action->len & (action->len - 1)) == 0)
        action->items = xrealloc(action->items, (action->len * 2 + 1) * sizeof(*action->items));
    action->items[action->len++] =
        (struct item){.id = xstrndup(message->id.data, message->id.len),
                      .came_us = came_us > 0 ? came_us : message->failed_us,
                      .size = message->size};
    return true;
}

/* Orders items by arrival. Of one microsecond the ids decide, which are in the order of the
 * failures. */
static int by_arrival(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    size_t a_len = strlen(a->id), b_len = strlen(b->id);

    if (a->came_us != b->came_us)
        return a->came_us < b->came_us ? -1 : 1;
    return a_len != b_len ? (a_len < b_len ? -1 : 1) : strcmp(a->id, b->id);
}

static void item_free(struct item *item)
{
    free(item->id);
    free(item->guard);
    buf_free(&item->value);
}

static int find_wanted(struct action *action, struct error *err)
{
    const struct verb_failed_wanted *wanted = action->wanted;
    const struct failure_query query = {.since_us = wanted->since_us,
                                        .until_us = wanted->until_us,
                                        .ids = wanted->ids_len > 0 ? wanted->ids : NULL,
                                        .ids_len = wanted->ids_len,
                                        .without_body = !verb_failed_needs_body(wanted)};
    int result = action->admin->store->list(action->admin->state, &query, collect, action, err);

    if (action->len > 0)
        qsort(action->items, action->len, sizeof(*action->items), by_arrival);
    while (wanted->limit > 0 && action->len > (uint64_t)wanted->limit)
        item_free(&action->items[--action->len]);
    return result;
}

static bool has_item(const struct action *action, struct bytes id)
{
    for (size_t i = 0; i < action->len; i++)
        if (bytes_equal_text(id, action->items[i].id))
            return true;
    return false;
}

/* Checks that all given ids exist; otherwise nothing may be done. */
static int check_ids(const struct action *action)
{
    const struct verb_failed_wanted *wanted = action->wanted;

    for (size_t i = 0; i < wanted->ids_len; i++) {
        if (has_item(action, wanted->ids[i]))
            continue;
        return cli_fail(CLI_FAILED,
                        action->in_hand > 0
                            ? "%.*s: it is gone, or a PHP worker has it in hand; --taken takes it "
                              "all the same, if that worker is dead"
                            : "%.*s: there is no such failed message; `mqtt-bridge failed list` "
                              "lists them",
                        BYTES_ARG(wanted->ids[i]));
    }
    return CLI_DONE;
}

static void clear_bar(const struct action *action)
{
    if (action->drawn_ms > 0)
        fputs("\r\033[K", stderr);
}

/* id NULL: the error concerns no single message. */
static void add_told(struct action *action, const char *id, const char *text)
{
    cJSON *object;

    if (action->told == NULL)
        return;
    object = cJSON_CreateObject();
    cJSON_AddItemToArray(action->told, object);
    if (id != NULL)
        cJSON_AddStringToObject(object, "id", id);
    else
        cJSON_AddNullToObject(object, "id");
    cJSON_AddStringToObject(object, "error", text);
}

static void tell_error(struct action *action, const char *id, const char *text)
{
    char *clean = cli_printable(bytes_of(text), 500);

    action->errors++;
    add_told(action, id, clean);
    if (action->errors <= ERRORS_SHOWN) {
        clear_bar(action);
        cli_fail(CLI_FAILED, "%s: %s", id, clean);
    } else if (action->errors == ERRORS_SHOWN + 1) {
        clear_bar(action);
        cli_fail(CLI_FAILED, "further messages that fail are counted only; --json tells them all");
    }
    free(clean);
}

static void item_fail(struct action *action, struct item *item, const char *text)
{
    item->state = FAILED;
    tell_error(action, item->id, text);
}

/* Stops after a server's failure, which would concern all remaining messages. */
static void stop(struct action *action, const char *text)
{
    char *clean = cli_printable(bytes_of(text), 500);

    action->stopped = true;
    action->errors++;
    add_told(action, NULL, clean);
    clear_bar(action);
    cli_fail(CLI_FAILED, "failed %s: %s", name_of(action), clean);
    free(clean);
}

static void draw_bar(struct action *action, size_t at)
{
    int64_t now = clock_monotonic_ms();
    char bar[BAR_COLUMNS + 1];
    size_t filled = action->len > 0 ? at * BAR_COLUMNS / action->len : 0;

    if (action->cli->json || !isatty(STDERR_FILENO) || !isatty(STDOUT_FILENO) ||
        (at < action->len && now - action->drawn_ms < BAR_EVERY_MS))
        return;
    memset(bar, '-', BAR_COLUMNS);
    memset(bar, '#', filled);
    bar[BAR_COLUMNS] = '\0';
    int64_t elapsed = now - action->started_ms;
    action->drawn_ms = now;
    fprintf(stderr, "\r\033[K[%s] %zu of %zu, %" PRId64 "/s", bar, at, action->len,
            elapsed > 0 ? (int64_t)at * 1000 / elapsed : 0);
}

static bool can_be_added(struct bytes fields)
{
    struct bytes *words;
    size_t len;

    if (envelope_fields_words(&words, &len, fields) < 0)
        return false;
    free(words);
    return len >= 2 && len <= QUEUE_WORDS_MAX;
}

static int convert(struct envelope *converted, const struct failed *failed,
                   const struct settings_transport *transport, struct arena *arena,
                   struct error *err)
{
    const struct envelope *envelope = &failed->envelope;
    const struct envelope_format format = {.serializer = transport->serializer,
                                           .visibility = transport->properties,
                                           .message_class = bytes_of(transport->message_class)};
    struct error why = failed->why;

    *converted = *envelope;
    if (envelope->serializer == transport->serializer)
        return 0;
    if (failed->is_message && envelope_convert(converted, envelope, &format, arena, &why) == 0)
        return 0;
    return error_set(err, ERR_FORMAT,
                     "its serializer is %s, that of [transport:%.30s] is %s, and it can't be "
                     "converted (%.90s); give --transport a NAME with serializer = %s",
                     envelope_serializer_name(envelope->serializer), transport->name,
                     envelope_serializer_name(transport->serializer), why.text,
                     envelope_serializer_name(envelope->serializer));
}

static int encode(struct item *item, const struct failure_message *message,
                  const struct failed *failed, struct arena *arena, struct error *err)
{
    struct buf body = {0}, headers = {0};
    struct envelope converted;
    int result;

    if (failed->envelope.raw_fields && !can_be_added(failed->envelope.payload))
        return error_set(
            err, ERR_USAGE,
            "it is a stream entry with fields of its own, but no list of at most %d of "
            "them: docs/WIRE.md, \"Entries with fields of their own\"",
            QUEUE_WORDS_MAX / 2);
    if (failed->envelope.raw) {
        buf_append(&item->value, failed->envelope.payload); /* the entry as in its former stream */
        return 0;
    }
    result = convert(&converted, failed, item->transport->settings, arena, err);
    if (result == 0)
        result = stamp_redriven(&body, &headers, &converted, message->id, clock_wall_us(), err);
    if (result == 0)
        result = envelope_join(&item->value, buf_bytes(&body), buf_bytes(&headers),
                               queue_dsn(item->transport->queue)->redis_serialized, err);
    buf_free(&body);
    buf_free(&headers);
    return result;
}

static void prepare(struct action *action, struct item *item, const struct failure_message *message)
{
    struct bytes name = bytes_of(action->wanted->transport);
    char text[400];
    struct failed failed;
    struct error err;

    failed_read(&failed, message->body, message->headers, NULL, NULL, &action->arena);
    if (!failed.is_readable) {
        snprintf(text, sizeof(text),
                 "it can't be read (%s), so nothing can be sent; `failed show` "
                 "shows it, `failed remove` removes it",
                 failed.why.text);
        item_fail(action, item, text);
        return;
    }
    if (name.len == 0)
        name = failed.transport;
    if (name.len == 0) {
        item_fail(action, item,
                  "nothing in it says from which transport it came; give --transport "
                  "NAME");
        return;
    }
    int result = redriver_open(action->redriver, name, &item->transport, &err);
    if (result == -ERR_NOT_FOUND) {
        snprintf(text, sizeof(text),
                 "it came from the transport \"%.*s\", which the settings don't have: add "
                 "[transport:%.*s] with its dsn, or give --transport NAME",
                 name.len > 60 ? 60 : (int)name.len, name.data, name.len > 60 ? 60 : (int)name.len,
                 name.data);
        item_fail(action, item, text);
        return;
    }
    if (result < 0) {
        if (!action->stopped)
            stop(action, err.text);
        return;
    }
    if (encode(item, message, &failed, &action->arena, &err) < 0) {
        if (failed.envelope.raw)
            snprintf(text, sizeof(text), "%s", err.text);
        else
            snprintf(text, sizeof(text),
                     "%s; PHP can: messenger:failed:retry %s, or of a stream messenger:consume",
                     err.text, item->id);
        item_fail(action, item, text);
        return;
    }
    int64_t most = item->transport->settings->max_entry;
    if ((int64_t)item->value.len > most) {
        snprintf(text, sizeof(text),
                 "its entry has %zu bytes: raise [transport:%.*s] max_entry above that, and see "
                 "that Redis takes it (proto-max-bulk-len)",
                 item->value.len, BYTES_ARG(name));
        item_fail(action, item, text);
        return;
    }
    item->guard = xasprintf("failed-%.*s-%08" PRIx32, BYTES_ARG(message->guard),
                            bytes_crc32c(bytes_crc32c(0, message->body.data, message->body.len),
                                         message->headers.data, message->headers.len));
    item->state = READY;
}

static bool take_one(void *context, const struct failure_message *message)
{
    struct action *action = context;

    for (size_t i = action->batch; i < action->batch_end; i++) {
        struct item *item = &action->items[i];

        if (!bytes_equal_text(message->id, item->id))
            continue;
        arena_clear(&action->arena);
        if (action->redriver == NULL)
            item->state = SENT;
        else if (!action->stopped)
            prepare(action, item, message);
        break;
    }
    return true;
}

static void stop_sending(struct action *action, const struct redriver_answer *answer)
{
    char text[400];

    snprintf(text, sizeof(text), "%s%s", answer->err.text,
             answer->result == -ERR_FULL ? ", or take fewer with --limit" : "");
    stop(action, text);
}

/* Sends in the items' order, so that no message overtakes a refused one. */
static void send_batch(struct action *action)
{
    for (size_t i = action->batch; i < action->batch_end; i++) {
        struct item *item = &action->items[i];

        if (item->state == READY) {
            item->message =
                (struct redriver_message){.guard = item->guard, .value = buf_bytes(&item->value)};
            redriver_send(item->transport, &item->message);
        }
    }
    redriver_wait(action->redriver);
    for (size_t i = action->batch; i < action->batch_end; i++) {
        struct item *item = &action->items[i];

        if (item->state != READY)
            continue;
        if (item->message.answer.result == 0) {
            item->state = SENT;
        } else {
            item->state = FAILED;
            if (!action->stopped)
                stop_sending(action, &item->message.answer);
        }
    }
}

static void settle_batch(struct action *action)
{
    struct bytes ids[BATCH_MOST];
    int64_t removed = 0;
    size_t len = 0;
    struct error err;

    for (size_t i = action->batch; i < action->batch_end; i++)
        if (action->items[i].state == SENT)
            ids[len++] = bytes_of(action->items[i].id);
    if (action->admin->store->settle(action->admin->state, ids, len, &removed, &err) < 0) {
        char text[400];

        snprintf(text, sizeof(text),
                 action->redriver != NULL
                     ? "%s: %zu messages were sent, and may still be in the failure transport: run "
                       "it again, none is sent twice"
                     : "%s: %zu messages may still be there",
                 err.text, len);
        stop(action, text);
        return;
    }
    for (size_t i = action->batch; i < action->batch_end; i++) {
        struct item *item = &action->items[i];

        if (item->state != SENT)
            continue;
        item->state = REMOVED;
        action->done++;
        action->before += action->redriver != NULL && item->message.answer.number == 0;
    }
    if (action->redriver == NULL && removed < (int64_t)len) {
        action->done -= (int64_t)len - removed;
        action->gone += len - (size_t)removed;
    }
}

static size_t batch_most(const struct action *action)
{
    int64_t rate = action->wanted->rate;

    if (rate == 0 || rate > BATCH_MOST * BATCHES_A_SECOND)
        return BATCH_MOST;
    return rate < BATCHES_A_SECOND ? 1 : (size_t)rate / BATCHES_A_SECOND;
}

static void end_batch_somewhere(struct action *action)
{
    size_t most = batch_most(action);
    size_t bytes = 0;

    action->batch_end = action->batch;
    do
        bytes += action->items[action->batch_end++].size;
    while (action->batch_end < action->len && action->batch_end - action->batch < most &&
           bytes + action->items[action->batch_end].size <= BATCH_BYTES_MOST);
}

static void do_batch(struct action *action)
{
    struct bytes ids[BATCH_MOST];
    size_t len = action->batch_end - action->batch;
    const struct failure_wanted wanted = {.ids = ids,
                                          .len = len,
                                          .taken_too = action->wanted->taken_too,
                                          .without_body = action->redriver == NULL};
    struct error err;

    for (size_t i = 0; i < len; i++)
        ids[i] = bytes_of(action->items[action->batch + i].id);
    if (action->admin->store->take(action->admin->state, &wanted, take_one, action, &err) < 0) {
        stop(action, err.text);
        return;
    }
    if (action->redriver != NULL)
        send_batch(action);
    settle_batch(action);
    for (size_t i = action->batch; i < action->batch_end; i++)
        buf_free(&action->items[i].value);
}

/* Waits so that at most --rate messages a second are sent, counted from the start. */
static void keep_rate(const struct action *action)
{
    int64_t rate = action->wanted->rate;

    if (rate == 0)
        return;
    int64_t due_ms = action->started_ms + (int64_t)action->batch_end * 1000 / rate;
    int64_t wait_ms = due_ms - clock_monotonic_ms();
    if (wait_ms > 0 && action->batch_end < action->len)
        nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000}, NULL);
}

static void run(struct action *action)
{
    action->started_ms = clock_monotonic_ms();
    draw_bar(action, 0);
    for (; action->batch < action->len && !action->stopped; action->batch = action->batch_end) {
        end_batch_somewhere(action);
        do_batch(action);
        draw_bar(action, action->batch_end);
        keep_rate(action);
    }
    clear_bar(action);
}

static size_t count_left(const struct action *action)
{
    size_t count = action->gone;

    for (size_t i = 0; i < action->len; i++)
        count += action->items[i].state == UNTOUCHED;
    return count;
}

static int print_json(const struct action *action, size_t left)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, action->redriver != NULL ? "dispatched" : "removed",
                            (double)(action->done - action->before));
    if (action->redriver != NULL)
        cJSON_AddNumberToObject(root, "dispatchedBefore", (double)action->before);
    cJSON_AddNumberToObject(root, "inHand", (double)(action->in_hand + left));
    cJSON_AddItemReferenceToObject(root, "errors", action->told);
    return cli_print_json(root);
}

static int print_text(const struct action *action, size_t left)
{
    const char *done = action->redriver != NULL ? "dispatched" : "removed";
    int64_t count = action->done - action->before;
    struct buf out = {0};

    buf_printf(&out, "%" PRId64 " message%s %s", count, count == 1 ? "" : "s", done);
    if (action->before > 0)
        buf_printf(&out, ", %" PRId64 " had been dispatched before and %s removed", action->before,
                   action->before == 1 ? "is" : "are");
    if (action->errors > 0)
        buf_append_text(&out, ", not all: see the errors");
    buf_append_char(&out, '\n');
    if (left > 0)
        buf_printf(&out, "%zu left: gone meanwhile, or somebody else has them in hand\n", left);
    if (action->in_hand > 0)
        buf_printf(&out,
                   "%zu left to PHP workers that have them in hand; --taken takes them all the "
                   "same, if these are dead\n",
                   action->in_hand);
    return cli_print_free(&out);
}

static int finish(const struct action *action)
{
    size_t left = action->stopped ? 0 : count_left(action);
    int code = action->cli->json ? print_json(action, left) : print_text(action, left);

    if (action->errors > 0 || (left > 0 && action->wanted->ids_len > 0))
        return CLI_FAILED;
    return code;
}

static int act(struct action *action)
{
    struct error err;

    action->told = action->cli->json ? cJSON_CreateArray() : NULL;
    int code =
        find_wanted(action, &err) < 0 ? cli_fail(CLI_FAILED, "%s", err.text) : check_ids(action);
    if (code == CLI_DONE && action->len > 0 && action->wanted->all)
        code = cli_confirm(action->cli, name_of(action), "failed message", action->len);
    if (code == CLI_DONE) {
        signal(SIGPIPE, SIG_IGN); /* a server may close the connection */
        run(action);
        code = finish(action);
    }
    for (size_t i = 0; i < action->len; i++)
        item_free(&action->items[i]);
    free(action->items);
    cJSON_Delete(action->told);
    arena_free(&action->arena);
    return code;
}

int verb_failed_retry(const struct cli *cli, struct failure_admin *admin,
                      const struct verb_failed_wanted *wanted)
{
    struct action action = {
        .cli = cli, .wanted = wanted, .admin = admin, .redriver = redriver_new(cli->settings)};
    int code;

    if (wanted->transport != NULL &&
        settings_transport(cli->settings, bytes_of(wanted->transport)) == NULL)
        code = cli_fail(CLI_USAGE, "failed retry: there is no [transport:%s]", wanted->transport);
    else
        code = act(&action);
    redriver_free(action.redriver);
    return code;
}

int verb_failed_remove(const struct cli *cli, struct failure_admin *admin,
                       const struct verb_failed_wanted *wanted)
{
    struct action action = {.cli = cli, .wanted = wanted, .admin = admin};

    return act(&action);
}
