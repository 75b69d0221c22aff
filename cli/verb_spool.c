/* The verb spool shows, verifies and dumps spools (spool_look.h). The verb also lists, sends and
 * removes oversized messages, which are in files beside the segments. The consumer may run
 * meanwhile. */
#include "cli/redriver.h"
#include "cli/render.h"
#include "cli/spool_files.h"
#include "cli/spool_look.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/client/oversized_file.h"
#include "common/client/queue.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC_COLUMN 40
#define ID_COLUMN    45
#define ID_SIZE      64

/* A file with an oversized message. */
struct entry {
    char *folder;      /* path of its spool */
    const char *spool; /* the part of the path that names the spool */
    char id[ID_SIZE];  /* X-Mqtt-Id; of a damaged file its number */
    uint64_t sequence; /* number of the file */
    bool damaged;
    struct oversized_message message; /* the payload has only its length */
    char *topic;                      /* memory of message.record.topic */
};

struct entries {
    const struct spool_files *files; /* the spool that is read */
    struct entry *list;
    size_t len;
    struct error err;
};

static void write_id(const struct oversized_message *message, char id[ID_SIZE])
{
    char spool_id[33];

    spool_files_id(message->spool_id, spool_id);
    snprintf(id, ID_SIZE, "%s-%" PRIu64, spool_id, message->record.identity);
}

static void add_entry(void *context, const char *name, const struct oversized_message *message)
{
    struct entries *entries = context;
    struct entry entry = {.folder = xstrdup(entries->files->path),
                          .sequence = strtoull(name, NULL, 10),
                          .damaged = message->record.sequence == 0,
                          .message = *message,
                          .topic = xstrndup(message->record.topic.data, message->record.topic.len)};

    entry.spool = entry.folder + strlen(entry.folder) - strlen(entries->files->name);
    entry.message.record.topic.data = entry.topic;
    if (entry.damaged)
        snprintf(entry.id, sizeof(entry.id), "%" PRIu64, entry.sequence);
    else
        write_id(message, entry.id);
    entries->list = xgrow(entries->list, entries->len, sizeof(entry));
    entries->list[entries->len++] = entry;
}

static int by_sequence(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;

    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

static bool add_entries(struct spool_files *files, void *context)
{
    struct entries *entries = context;
    size_t before = entries->len;

    entries->files = files;
    if (oversized_file_list(files->dir, add_entry, entries, &entries->err) < 0)
        return false;
    if (entries->len > before)
        qsort(entries->list + before, entries->len - before, sizeof(*entries->list), by_sequence);
    return true;
}

static void free_entries(struct entries *entries)
{
    for (size_t i = 0; i < entries->len; i++) {
        free(entries->list[i].folder);
        free(entries->list[i].topic);
    }
    free(entries->list);
}

static const char *why(const struct entry *entry)
{
    if (entry->damaged)
        return "damaged";
    return entry->message.for_redis ? "too large for Redis" : "too large for the spool";
}

static void print_row(struct buf *out, const struct entry *entry)
{
    char received[CLOCK_TEXT_SIZE] = "-";
    char *topic = cli_printable(entry->message.record.topic, entry->message.record.topic.len);
    struct buf size = {0};

    if (!entry->damaged)
        clock_format_us(entry->message.record.received_us, received);
    render_size(&size, (double)entry->message.record.payload.len);
    buf_printf(out, "%-*s  %-*s  %6s  %-19.19s  %-23s  %s\n", ID_COLUMN, entry->id, TOPIC_COLUMN,
               topic, buf_text(&size), received, why(entry), entry->spool);
    buf_free(&size);
    free(topic);
}

static void print_table(struct buf *out, const struct entries *entries)
{
    if (entries->len == 0) {
        buf_append_text(out, "no message was set aside\n");
        return;
    }
    buf_printf(out, "%-*s  %-*s  %6s  %-19s  %-23s  %s\n", ID_COLUMN, "ID", TOPIC_COLUMN, "TOPIC",
               "BYTES", "RECEIVED (UTC)", "WHY", "SPOOL");
    for (size_t i = 0; i < entries->len; i++)
        print_row(out, &entries->list[i]);
}

static void add_json(cJSON *array, const struct entry *entry)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToArray(array, object);
    cJSON_AddStringToObject(object, "id", entry->id);
    cJSON_AddStringToObject(object, "spool", entry->spool);
    cJSON_AddStringToObject(object, "why", why(entry));
    cJSON_AddNumberToObject(object, "bytes", (double)entry->message.record.payload.len);
    if (entry->damaged)
        return;
    cli_add_text(object, "topic", entry->message.record.topic);
    cli_add_time(object, "received", entry->message.record.received_us);
    cJSON_AddNumberToObject(object, "sequence", (double)entry->message.record.sequence);
    cJSON_AddNumberToObject(object, "qos", entry->message.record.qos);
    cJSON_AddBoolToObject(object, "retained", entry->message.record.retained);
}

static int list(const struct cli *cli, const struct entries *entries)
{
    struct buf out = {0};

    if (!cli->json) {
        print_table(&out, entries);
        return cli_print_free(&out);
    }
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < entries->len; i++)
        add_json(array, &entries->list[i]);
    return cli_print_json(array);
}

struct sender {
    struct redriver *redriver;
    struct redriver_transport *transport;
    struct envelope_template *template;
};

static int sender_open(struct sender *sender, const struct settings *settings, struct error *err)
{
    sender->redriver = redriver_new(settings);
    int result =
        redriver_open(sender->redriver, BYTES(SETTINGS_TRANSPORT), &sender->transport, err);
    if (result == 0)
        sender->template =
            queue_envelope_new(sender->transport->queue, sender->transport->settings);
    return result;
}

static void sender_close(struct sender *sender)
{
    redriver_free(sender->redriver);
    if (sender->template != NULL)
        envelope_template_free(sender->template);
}

static int send_message(struct sender *sender, const char *id, const struct oversized_message *file,
                        bool *added, struct error *err)
{
    struct envelope_message message = {.topic = file->record.topic,
                                       .payload = file->record.payload,
                                       .id = bytes_of(id),
                                       .received_us = file->record.received_us,
                                       .qos = file->record.qos,
                                       .retained = file->record.retained};
    struct redriver_message sent = {.guard = id};
    struct buf value = {0};
    int result =
        redriver_open(sender->redriver, BYTES(SETTINGS_TRANSPORT), &sender->transport, err);

    if (result < 0)
        return result;
    size_t size = envelope_encode(sender->template, &message, SIZE_MAX, &value);
    if (size > (size_t)sender->transport->settings->max_entry) {
        buf_free(&value);
        return error_set(err, ERR_TOO_LARGE,
                         "its entry has %zu bytes: raise [transport:async] max_entry above that, "
                         "and see that Redis takes it (proto-max-bulk-len)",
                         size);
    }
    sent.value = buf_bytes(&value);
    redriver_send(sender->transport, &sent);
    redriver_wait(sender->redriver);
    buf_free(&value);
    *added = sent.answer.number != 0;
    *err = sent.answer.err;
    return sent.answer.result;
}

static int resend_one(struct sender *sender, int dir, const struct entry *entry, const char **done,
                      struct error *err)
{
    struct oversized_message message;
    struct buf bytes = {0};
    bool added = false;
    int result = oversized_file_read(dir, entry->sequence, &message, &bytes, err);

    if (result == 0)
        result = send_message(sender, entry->id, &message, &added, err);
    buf_free(&bytes);
    /* If this process ends here, a later run does not send the message again: Redis keeps the
     * identity. Another process may have removed the file meanwhile. */
    if (result == 0) {
        result = oversized_file_remove(dir, entry->sequence, err);
        if (result == -ERR_NOT_FOUND)
            result = 0;
    }
    *done = added ? "sent" : "was sent before; its file is removed";
    return result;
}

static int remove_one(int dir, const struct entry *entry, const char **done, struct error *err)
{
    *done = "removed";
    return oversized_file_remove(dir, entry->sequence, err);
}

/* results: collects the results for --json; NULL: prints a line for each. sender NULL: removes
 * the message. */
static int do_one(const struct entry *entry, struct sender *sender, cJSON *results)
{
    struct error err = {0};
    const char *done = NULL;
    int dir = open(entry->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = dir < 0          ? error_system(&err, "%s", entry->folder)
                 : sender != NULL ? resend_one(sender, dir, entry, &done, &err)
                                  : remove_one(dir, entry, &done, &err);

    file_close(&dir);
    if (results != NULL) {
        cJSON *object = cJSON_CreateObject();

        cJSON_AddItemToArray(results, object);
        cJSON_AddStringToObject(object, "id", entry->id);
        cJSON_AddStringToObject(object, "spool", entry->spool);
        cJSON_AddStringToObject(object, result < 0 ? "error" : "done",
                                result < 0 ? err.text : done);
    } else if (result == 0) {
        printf("%s: %s\n", entry->id, done);
    }
    return result < 0 ? cli_fail(CLI_FAILED, "%s: %s", entry->id, err.text) : CLI_DONE;
}

static bool is_wanted(const struct cli *cli, const char *id)
{
    for (size_t i = 1; i < cli->arguments_len; i++)
        if (strcmp(cli->arguments[i], id) == 0)
            return true;
    return cli->arguments_len == 1; /* no ids were given: --all */
}

static int check_ids(const struct cli *cli, const struct entries *entries)
{
    for (size_t i = 1; i < cli->arguments_len; i++) {
        bool found = false;

        for (size_t j = 0; j < entries->len; j++)
            found = found || strcmp(entries->list[j].id, cli->arguments[i]) == 0;
        if (!found)
            return cli_fail(CLI_FAILED,
                            "%s: there is no such message; `mqtt-bridge spool` lists "
                            "them",
                            cli->arguments[i]);
    }
    return CLI_DONE;
}

static int for_each(const struct cli *cli, const struct entries *entries, struct sender *sender)
{
    cJSON *results = cli->json ? cJSON_CreateArray() : NULL;
    int code = CLI_DONE;

    for (size_t i = 0; i < entries->len; i++)
        if (is_wanted(cli, entries->list[i].id) &&
            do_one(&entries->list[i], sender, results) != CLI_DONE)
            code = CLI_FAILED;
    if (results != NULL && cli_print_json(results) != CLI_DONE)
        code = CLI_FAILED;
    return code;
}

static int act(struct cli *cli, const struct entries *entries)
{
    const char *action = cli->arguments[0];
    size_t ids = cli->arguments_len - 1;
    bool resend = strcmp(action, "resend") == 0, all = cli_option(cli, "all") != NULL;
    struct sender sender = {0};
    struct error err = {0};

    if (all == (ids > 0))
        return cli_fail(CLI_USAGE, "spool %s: say which: ID..., or --all", action);
    int code = check_ids(cli, entries);
    if (code != CLI_DONE)
        return code;
    if (all || !resend)
        code = cli_confirm(cli, action, "message", all ? entries->len : ids);
    if (code != CLI_DONE)
        return code;
    if (!resend)
        return for_each(cli, entries, NULL);
    signal(SIGPIPE, SIG_IGN); /* Redis may close the connection */
    if (sender_open(&sender, cli_settings(cli), &err) < 0)
        code = cli_fail(CLI_FAILED, "%s", err.text);
    else
        code = for_each(cli, entries, &sender);
    sender_close(&sender);
    return code;
}

static int handle_oversized(struct cli *cli)
{
    struct entries entries = {0};
    int code =
        spool_files_each(cli->settings->supervisor.state_dir, 0, NULL, add_entries, &entries);

    if (entries.err.code != ERR_NONE)
        code = cli_fail(CLI_FAILED, "%s", entries.err.text);
    else if (code == CLI_DONE &&
             (cli->arguments_len == 0 || strcmp(cli->arguments[0], "list") == 0))
        code = list(cli, &entries);
    else if (code == CLI_DONE)
        code = act(cli, &entries);
    free_entries(&entries);
    return code;
}

int verb_spool(struct cli *cli)
{
    const char *action = cli->arguments_len > 0 ? cli->arguments[0] : "list";

    if (cli_settings(cli) == NULL)
        return CLI_USAGE;
    if (strcmp(action, "show") == 0)
        return spool_look_show(cli);
    if (strcmp(action, "verify") == 0)
        return spool_look_verify(cli);
    if (strcmp(action, "dump") == 0)
        return spool_look_dump(cli);
    return handle_oversized(cli);
}
