/* The verb setup makes what the bridge would make at its first need, as
 * messenger:setup-transports does. For each transport these are stream and consumer group, for
 * the failure transport those or a table. Existing ones stay as they are. */
#include "cli/check_server.h"
#include "cli/redriver.h"
#include "cli/verbs.h"
#include "common/client/failure.h"
#include "common/client/queue_group.h"
#include "common/wire/dsn.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <string.h>

/* The result of one transport's setup. */
struct target {
    const char *name;
    struct buf address; /* the DSN without a password */
    struct {
        const char *kind; /* "stream", "group" or "table" */
        char name[256];
        bool made;
    } parts[2];
    size_t parts_len;
    int result;
    struct error err;
    const char *see; /* a hint to the settings with the address */
};

static void add_part(struct target *target, const char *kind, const char *name, bool made)
{
    target->parts[target->parts_len].kind = kind;
    target->parts[target->parts_len].made = made;
    bytes_to_printable(bytes_of(name), target->parts[target->parts_len].name,
                       sizeof(target->parts[0].name));
    target->parts_len++;
}

/* made: the number of queue_set_up's answer. */
static void add_stream(struct target *target, const char *text, int64_t made)
{
    struct dsn_redis dsn;

    target->result = dsn_redis_parse(&dsn, text, &target->err);
    if (target->result < 0)
        return;
    add_part(target, "stream", dsn.stream, made == 2);
    add_part(target, "group", dsn.group, made > 0);
    dsn_redis_free(&dsn);
}

static void set_up_transport(struct target *target, struct redriver *redriver,
                             const struct settings_transport *settings)
{
    struct redriver_transport *transport;
    struct redriver_answer answer = {0};

    target->name = settings->name;
    target->see = strcmp(settings->name, SETTINGS_TRANSPORT) == 0
                      ? "see [transport:async] dsn (MESSENGER_TRANSPORT_DSN)"
                      : "see the dsn of its section";
    dsn_redacted(&target->address, settings->dsn);
    target->result = redriver_open(redriver, bytes_of(settings->name), &transport, &target->err);
    if (target->result < 0)
        return;
    queue_set_up(transport->queue, redriver_take_answer, &answer);
    target->result = redriver_await(transport, &answer, &target->err);
    if (target->result == 0)
        add_stream(target, settings->dsn, answer.number);
}

static void set_up_failure(struct target *target, const struct settings_failure *settings)
{
    bool is_redis = dsn_is_redis(settings->dsn);
    struct failure *failure = NULL;
    int64_t made = 0;

    target->name = "failure transport";
    target->see = is_redis ? "see [failure] dsn (MESSENGER_FAILURE_TRANSPORT_DSN)"
                           : "see [failure] dsn (DATABASE_URL)";
    dsn_redacted(&target->address, settings->dsn);
    target->result = failure_new(&failure, settings, &target->err);
    if (target->result == 0)
        target->result = failure_set_up(failure, CHECK_TIMEOUT_MS, &made, &target->err);
    if (target->result == 0 && is_redis)
        add_stream(target, settings->dsn, made);
    else if (target->result == 0)
        add_part(target, "table", settings->table, made > 0);
    failure_free(failure);
}

/* Returns the error's text without the address at its start. */
static const char *words_of(struct target *target)
{
    const struct check_server server = {.address = (char *)buf_text(&target->address)};

    return check_server_text(&server, &target->err);
}

static void print_text(struct buf *out, struct target *target)
{
    if (target->result < 0) {
        cli_fail(CLI_FAILED, "%s %s: %s; %s", target->name, buf_text(&target->address),
                 words_of(target), target->see);
        return;
    }
    buf_printf(out, "%s %s:", target->name, buf_text(&target->address));
    for (size_t i = 0; i < target->parts_len; i++)
        buf_printf(out, "%s %s `%s` %s", i > 0 ? "," : "", target->parts[i].kind,
                   target->parts[i].name, target->parts[i].made ? "made" : "was there");
    buf_append_char(out, '\n');
}

static void add_json(cJSON *targets, struct target *target)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddItemToArray(targets, object);
    cJSON_AddStringToObject(object, "name", target->name);
    cJSON_AddStringToObject(object, "address", buf_text(&target->address));
    cJSON_AddBoolToObject(object, "ok", target->result == 0);
    if (target->result < 0)
        cJSON_AddStringToObject(object, "error", words_of(target));
    for (size_t i = 0; i < target->parts_len; i++)
        cJSON_AddStringToObject(object, target->parts[i].kind, target->parts[i].name);
    cJSON *made = cJSON_AddArrayToObject(object, "made");
    for (size_t i = 0; i < target->parts_len; i++)
        if (target->parts[i].made)
            cJSON_AddItemToArray(made, cJSON_CreateString(target->parts[i].kind));
}

/* Reports one target. Text is printed at once, since the next server may answer late. */
static int finish(struct target *target, cJSON *targets)
{
    struct buf out = {0};
    bool printed = true;

    if (targets)
        add_json(targets, target);
    else
        print_text(&out, target);
    if (out.len > 0)
        printed = cli_print(&out);
    buf_free(&out);
    buf_free(&target->address);
    return target->result == 0 && printed ? CLI_DONE : CLI_FAILED;
}

static int set_up_all(const struct settings *settings, cJSON *targets)
{
    struct redriver *redriver = redriver_new(settings);
    int code = CLI_DONE;

    for (size_t i = 0; i < settings->transports_len; i++) {
        struct target target = {0};

        set_up_transport(&target, redriver, &settings->transports[i]);
        if (finish(&target, targets) != CLI_DONE)
            code = CLI_FAILED;
    }
    redriver_free(redriver);
    if (settings->failure.dsn[0]) {
        struct target target = {0};

        set_up_failure(&target, &settings->failure);
        if (finish(&target, targets) != CLI_DONE)
            code = CLI_FAILED;
    }
    return code;
}

int verb_setup(struct cli *cli)
{
    const struct settings *settings = cli_settings(cli);
    cJSON *root = cli->json ? cJSON_CreateArray() : NULL;

    if (!settings) {
        cJSON_Delete(root);
        return CLI_USAGE;
    }
    signal(SIGPIPE, SIG_IGN); /* a server may close the connection */
    int code = set_up_all(settings, root);
    if (root && cli_print_json(root) != CLI_DONE)
        code = CLI_FAILED;
    if (!root && !settings->failure.dsn[0])
        cli_fail(CLI_DONE,
                 "there is no failure transport: [failure] dsn (DATABASE_URL) is not set");
    return code;
}
