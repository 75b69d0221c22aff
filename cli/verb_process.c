/* The verb run executes the supervisor. The other verbs send the supervisor a request: start,
 * stop, restart, scale, reload, upgrade and signal are answered when done. The verbs events, log
 * and health only read. */
#include "cli/control_client.h"
#include "cli/render.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUPERVISOR "mqtt-bridge-supervisor"

/* Returns the path of the supervisor in this program's folder, to be freed; NULL if none is
 * there. */
static char *find_beside(void)
{
    char *folder = file_own_folder();
    char *path = folder ? xasprintf("%s/%s", folder, SUPERVISOR) : NULL;

    free(folder);
    if (path && access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* Executes the supervisor in this program's folder, so that an unpacked archive runs its own.
 * Otherwise the supervisor in PATH is executed. */
int verb_run(struct cli *cli)
{
    char *beside = find_beside();
    char *config = cli->config ? xstrdup(cli->config) : NULL;
    char program[] = SUPERVISOR;
    char option[] = "--config";
    char *words[] = {program, config ? option : NULL, config, NULL};

    if (beside)
        execv(beside, words);
    else
        execvp(SUPERVISOR, words);
    cli_fail(CLI_FAILED, "%s: %s", beside ? beside : SUPERVISOR, strerror(errno));
    free(beside);
    free(config);
    return CLI_FAILED;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* Sends the request and deletes it. *answer is set if CLI_DONE is returned; with --json the
 * answer is already printed. */
static int ask(struct cli *cli, cJSON *request, cJSON **answer)
{
    int code = control_client_ask_or_report(cli, request, answer);

    if (code == CLI_DONE && cli->json)
        control_client_print(*answer);
    cJSON_Delete(request);
    return code;
}

/* Makes a request for the processes that the first `len` arguments name. */
static cJSON *request_for(struct cli *cli, const char *verb, size_t len)
{
    cJSON *request = control_client_request(cli, verb);
    struct buf names = {0};

    for (size_t i = 0; i < len; i++)
        buf_printf(&names, "%s%s", i > 0 ? " " : "", cli->arguments[i]);
    if (len > 0)
        cJSON_AddStringToObject(request, "target", buf_text(&names));
    buf_free(&names);
    return request;
}

static int change(struct cli *cli, cJSON *request, const char *done)
{
    cJSON *answer = NULL;
    const cJSON *process;
    struct buf text = {0};
    int code = ask(cli, request, &answer);

    cJSON_ArrayForEach(process, member(answer, "processes"))
    {
        buf_append_char(&text, ' ');
        render_title(&text, process);
    }
    if (code == CLI_DONE && !cli->json)
        printf("%s:%s\n", done, buf_text(&text));
    buf_free(&text);
    cJSON_Delete(answer);
    return code;
}

int verb_start(struct cli *cli)
{
    return change(cli, request_for(cli, "start", cli->arguments_len), "running");
}

int verb_restart(struct cli *cli)
{
    return change(cli, request_for(cli, "restart", cli->arguments_len), "restarted");
}

int verb_signal(struct cli *cli)
{
    size_t last = cli->arguments_len - 1;
    cJSON *request = request_for(cli, "signal", last);

    cJSON_AddStringToObject(request, "signal", cli->arguments[last]);
    return change(cli, request, "sent to");
}

/* Stops the named processes, or without a name the whole bridge. The answer then comes when the
 * bridge has ended. */
int verb_stop(struct cli *cli)
{
    cJSON *answer = NULL;

    if (cli->arguments_len > 0)
        return change(cli, request_for(cli, "stop", cli->arguments_len), "stopped");
    int code = ask(cli, request_for(cli, "stop", 0), &answer);
    if (code == CLI_DONE && !cli->json)
        puts("stopped");
    cJSON_Delete(answer);
    return code;
}

int verb_scale(struct cli *cli)
{
    uint64_t count = 0;
    cJSON *answer = NULL;

    if (!bytes_to_u64(bytes_of(cli->arguments[0]), &count) || count > 100000)
        return cli_fail(CLI_USAGE, "scale %s: takes how many workers are to run, a number from 0",
                        cli->arguments[0]);
    cJSON *request = control_client_request(cli, "scale");
    cJSON_AddNumberToObject(request, "count", (double)count);
    int code = ask(cli, request, &answer);
    if (code == CLI_DONE && !cli->json)
        printf("workers: %llu\n", (unsigned long long)count);
    cJSON_Delete(answer);
    return code;
}

int verb_reload(struct cli *cli)
{
    cJSON *answer = NULL;

    int code = ask(cli, control_client_request(cli, "reload"), &answer);
    if (code == CLI_DONE && !cli->json)
        printf("settings reloaded, restarted: %.0f\n", control_client_number(answer, "restarted"));
    cJSON_Delete(answer);
    return code;
}

int verb_upgrade(struct cli *cli)
{
    cJSON *answer = NULL;

    int code = ask(cli, control_client_request(cli, "upgrade"), &answer);
    if (code == CLI_DONE && !cli->json)
        printf("upgraded to %s from %s\n", control_client_text(answer, "version"),
               control_client_text(answer, "former"));
    cJSON_Delete(answer);
    return code;
}

static void print_lines(const cJSON *lines, bool with_levels)
{
    const cJSON *line;

    cJSON_ArrayForEach(line, lines)
    {
        printf("%s  %s%s%s\n", control_client_text(line, "time"),
               with_levels ? control_client_text(line, "level") : "", with_levels ? "  " : "",
               control_client_text(line, "text"));
    }
}

int verb_events(struct cli *cli)
{
    cJSON *answer = NULL;

    int code = ask(cli, control_client_request(cli, "events"), &answer);
    if (code == CLI_DONE && !cli->json)
        print_lines(member(answer, "events"), false);
    cJSON_Delete(answer);
    return code;
}

int verb_log(struct cli *cli)
{
    cJSON *answer = NULL;
    const cJSON *process;
    int code = ask(cli, request_for(cli, "log", cli->arguments_len), &answer);
    const cJSON *processes = member(answer, "processes");

    cJSON_ArrayForEach(process, processes)
    {
        struct buf title = {0};

        render_title(&title, process);
        if (!cli->json && cJSON_GetArraySize(processes) > 1)
            printf("%s==> %s <==\n", process != processes->child ? "\n" : "", buf_text(&title));
        if (!cli->json)
            print_lines(member(process, "lines"), true);
        buf_free(&title);
    }
    cJSON_Delete(answer);
    return code;
}

/* A probe: exit code 0 if the service is ready, 3 if it does not run. Else 1, with the reasons
 * on standard error. The option --quiet suppresses all output. */
int verb_health(struct cli *cli)
{
    cJSON *health = NULL;
    const cJSON *reason;

    cli->quiet = cli_option(cli, "quiet") != NULL;
    int code = ask(cli, control_client_request(cli, "health"), &health);
    if (code == CLI_DONE && !cJSON_IsTrue(member(health, "ready"))) {
        code = CLI_FAILED;
        cJSON_ArrayForEach(reason, member(health, "reasons"))
        {
            if (cJSON_IsString(reason) && !cli->quiet)
                cli_fail(CLI_FAILED, "not ready: %s", reason->valuestring);
        }
    }
    cJSON_Delete(health);
    return code;
}
