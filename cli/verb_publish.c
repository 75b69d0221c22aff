/* The verb publish sends one update to the hub, as a test. The bridge need not run: only the
 * settings' hub and token are used. */
#include "cli/verbs.h"
#include "common/base/clock.h"
#include "common/base/sys.h"
#include "common/client/hub.h"
#include "common/wire/update.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DATA_MAX ((size_t)10 << 20) /* no hub accepts more */
#define ID_SIZE  46

/* A hint for each range of the hub's status. The first row that contains the status applies. */
static const struct mend {
    long first;
    long last;
    const char *text;
} MENDS[] = {
    {0, 0, "is the hub running, and is [mercure] url (MERCURE_URL) right?"},
    {200, 299, "does [mercure] url (MERCURE_URL) lead to a hub? It ends in /.well-known/mercure"},
    {300, 399, "give [mercure] url (MERCURE_URL) the address that it leads to"},
    {400, 400, "does the hub's log say what it minds? --type and --id are one line each"},
    {401, 401,
     "is [mercure] jwt_secret (MERCURE_JWT_SECRET) the hub's publisher key, and may the token "
     "publish this topic?"},
    {403, 403, "may the token publish this topic? No hub takes one under /.well-known/mercure"},
    {404, 405, "does [mercure] url (MERCURE_URL) end in /.well-known/mercure?"},
    {407, 407, "give http_proxy its user and password, or name the hub in no_proxy"},
    {413, 413, "the data are larger than the hub, or a proxy before it, takes"},
    {421, 421, "does the hub's server (SERVER_NAME) know the host of [mercure] url (MERCURE_URL)?"},
    {429, 429, "wait a little, or raise the limit of the hub or of the proxy before it"},
    {503, 503, "wait a little, then see the hub's log"},
    {500, 599, "see the hub's log, and that of a proxy before it"},
};

static const char *mend_of(long status)
{
    for (size_t i = 0; i < LENGTH_OF(MENDS); i++)
        if (status >= MENDS[i].first && status <= MENDS[i].last)
            return MENDS[i].text;
    return "does [mercure] url (MERCURE_URL) lead to a hub?";
}

static void make_id(char id[ID_SIZE])
{
    unsigned char r[16];

    sys_random(r, sizeof(r));
    r[6] = (unsigned char)((r[6] & 0x0F) | 0x40);
    r[8] = (unsigned char)((r[8] & 0x3F) | 0x80);
    snprintf(id, ID_SIZE,
             "urn:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0],
             r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13],
             r[14], r[15]);
}

static int read_standard_input(struct buf *data)
{
    ssize_t got;

    do {
        char *into = buf_reserve(data, 65536);

        got = read(STDIN_FILENO, into, 65536);
        data->len += got > 0 ? (size_t)got : 0;
    } while (data->len <= DATA_MAX && (got > 0 || (got < 0 && errno == EINTR)));
    if (got < 0)
        return cli_fail(CLI_FAILED, "publish: standard input: %s", strerror(errno));
    return CLI_DONE;
}

static int print_done(const struct cli *cli, const struct update *update,
                      const struct hub_result *result)
{
    char time[CLOCK_UTC_SIZE];
    struct buf out = {0};

    clock_format_utc(clock_wall_us(), time);
    if (cli->json) {
        cJSON *root = cJSON_CreateObject();

        cJSON_AddStringToObject(root, "id", update->id.data);
        cJSON_AddStringToObject(root, "topic", update->topic.data);
        cJSON_AddBoolToObject(root, "private", update->private_update);
        cJSON_AddStringToObject(root, "time", time);
        cJSON_AddNumberToObject(root, "took_ms", (double)result->took_us / 1000);
        return cli_print_json(root);
    }
    buf_printf(&out, "%s published at %s in %.1f ms\n", update->id.data, time,
               (double)result->took_us / 1000);
    return cli_print_free(&out);
}

static int publish(struct cli *cli, const struct settings_mercure *mercure,
                   const struct update *update)
{
    struct hub_result result = {0};
    struct buf form = {0};
    struct error err = {0};

    if (update_check(update, &err) < 0)
        return cli_fail(CLI_FAILED, "publish: not sent, since every hub refuses it: %s", err.text);
    update_form(&form, update);
    int status =
        hub_publish_once(mercure, buf_bytes(&form), update->id, mercure->timeout_ms, &result, &err);
    buf_free(&form);
    if (status < 0)
        return cli_fail(CLI_USAGE, "publish: %s", err.text);
    if (result.answer.outcome != HUB_PASSED)
        return cli_fail(CLI_FAILED, "publish: %s; %s", result.text, mend_of(result.status));
    return print_done(cli, update, &result);
}

int verb_publish(struct cli *cli)
{
    const struct settings *settings = cli_settings(cli);
    const char *id = cli_option(cli, "id");
    struct buf data = {0};
    char made_id[ID_SIZE];
    int code = CLI_DONE;

    if (!settings)
        return CLI_USAGE;
    if (strcmp(cli->arguments[1], "-") == 0)
        code = read_standard_input(&data);
    else
        buf_append_text(&data, cli->arguments[1]);
    make_id(made_id);
    const struct update update = {.topic = bytes_of(cli->arguments[0]),
                                  .data = buf_bytes(&data),
                                  .private_update = cli_option(cli, "private") != NULL,
                                  .id = bytes_of(id ? id : made_id),
                                  .type = bytes_of(cli_option(cli, "type"))};
    if (code == CLI_DONE)
        code = publish(cli, &settings->mercure, &update);
    buf_free(&data);
    return code;
}
