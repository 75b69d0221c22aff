/* start, stop, restart, scale and reload: the wish is sent, then watched in the status until it is so. */
#include "cli/control_client.h"
#include "cli/render.h"
#include "cli/verbs.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOOK_AGAIN_MS 50
#define START_MS      15000 /* for a start; a stop has its stop_timeout */

enum verdict { NOT_YET, DONE, FAILED };

/* What is watched for. */
struct wish {
    const char *verb;
    const cJSON *answer; /* of the supervisor: whom it concerns */
    int64_t workers;     /* scale */
    struct buf obstacle; /* what stands in the way, for the message: the gravest of the last look */
    int gravity;         /* its */
    struct buf left; /* restart: whom a rolling restart that was given up has left as they were */
};

static const cJSON *find_process(const cJSON *status, const cJSON *wanted)
{
    const cJSON *process;

    cJSON_ArrayForEach(process, cJSON_GetObjectItemCaseSensitive(status, "processes"))
    {
        if (strcmp(control_client_text(process, "name"), control_client_text(wanted, "name")) ==
                0 &&
            cJSON_Compare(cJSON_GetObjectItemCaseSensitive(process, "slot"),
                          cJSON_GetObjectItemCaseSensitive(wanted, "slot"), true))
            return process;
    }
    return NULL;
}

static bool state_is(const cJSON *process, const char *state)
{
    return strcmp(control_client_text(process, "state"), state) == 0;
}

/* Who waits for another is not what has to be mended. */
static int gravity_of(const cJSON *process)
{
    if (state_is(process, "fatal"))
        return 4;
    if (state_is(process, "backoff"))
        return 3;
    return state_is(process, "running") || state_is(process, "stopped") ? 1 : 2;
}

static void note_obstacle(struct wish *wish, const cJSON *process)
{
    const char *reason = control_client_text(process, "reason");

    if (gravity_of(process) <= wish->gravity)
        return;
    wish->gravity = gravity_of(process);
    buf_clear(&wish->obstacle);
    render_title(&wish->obstacle, process);
    buf_printf(&wish->obstacle, " is %s%s%s", control_client_text(process, "state"),
               reason[0] != '\0' ? ": " : "", reason);
}

static enum verdict judge_start(struct wish *wish, const cJSON *process, double old_pid)
{
    bool fresh = strcmp(wish->verb, "start") == 0 ||
                 control_client_number(process, "pid") > old_pid ||
                 control_client_number(process, "pid") < old_pid;

    if (fresh && state_is(process, "running"))
        return DONE;
    /* It runs as before, and not for its turn's sake: nobody will restart it. */
    if (state_is(process, "running") &&
        cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(process, "waits"))) {
        buf_append_char(&wish->left, ' ');
        render_title(&wish->left, process);
    }
    note_obstacle(wish, process);
    return state_is(process, "fatal") ? FAILED : NOT_YET;
}

static enum verdict judge_stop(struct wish *wish, const cJSON *process)
{
    if (state_is(process, "running") || state_is(process, "starting") ||
        state_is(process, "stopping") || state_is(process, "backoff")) {
        note_obstacle(wish, process);
        return NOT_YET;
    }
    return DONE;
}

static enum verdict judge_processes(struct wish *wish, const cJSON *status)
{
    enum verdict all = DONE;
    const cJSON *wanted;

    cJSON_ArrayForEach(wanted, cJSON_GetObjectItemCaseSensitive(wish->answer, "processes"))
    {
        const cJSON *process = find_process(status, wanted);
        double old_pid = control_client_number(wanted, "pid");
        enum verdict one = DONE;

        if (process != NULL && strcmp(wish->verb, "stop") == 0)
            one = judge_stop(wish, process);
        else if (process != NULL)
            one = judge_start(wish, process, old_pid);
        if (one == FAILED)
            return FAILED;
        if (one == NOT_YET)
            all = NOT_YET;
    }
    if (wish->left.len == 0)
        return all;
    const char *failure = control_client_text(status, "roll_failure");
    buf_clear(&wish->obstacle);
    buf_printf(&wish->obstacle, "%s%snot restarted:%s", failure,
               failure[0] != '\0' ? "; the rolling restart was given up, " : "",
               buf_text(&wish->left));
    return FAILED;
}

static enum verdict judge_scale(struct wish *wish, const cJSON *status)
{
    int64_t present = 0;
    int64_t running = 0;
    const cJSON *process;

    cJSON_ArrayForEach(process, cJSON_GetObjectItemCaseSensitive(status, "processes"))
    {
        if (strcmp(control_client_text(process, "name"), "worker") != 0)
            continue;
        present++;
        if (state_is(process, "running"))
            running++;
        else
            note_obstacle(wish, process);
        /* One that was given up or stopped before does not come back by this. */
        if (state_is(process, "fatal"))
            return FAILED;
        if (state_is(process, "stopped"))
            running++;
    }
    if (present == wish->workers && running == wish->workers)
        return DONE;
    if (wish->obstacle.len == 0)
        buf_printf(&wish->obstacle, "there are %lld workers, not %lld", (long long)present,
                   (long long)wish->workers);
    return NOT_YET;
}

static enum verdict judge(struct wish *wish, const cJSON *status)
{
    buf_clear(&wish->obstacle);
    buf_clear(&wish->left);
    wish->gravity = 0;
    if (strcmp(wish->verb, "scale") == 0)
        return judge_scale(wish, status);
    return judge_processes(wish, status);
}

/* Asks for the status until the wish is fulfilled, can't be, or time is up. */
static int watch(struct cli *cli, struct wish *wish)
{
    double patience = control_client_number(wish->answer, "stop_timeout_ms");
    int concerned = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(wish->answer, "processes"));
    int64_t deadline = clock_monotonic_ms() + START_MS;
    cJSON *request = control_client_request(cli, "status");
    enum verdict verdict = NOT_YET;
    int code = CLI_DONE;

    /* In a rolling restart each has its own turn. */
    deadline += (int64_t)patience * (concerned > 0 ? concerned : 1);
    while (code == CLI_DONE && verdict == NOT_YET) {
        cJSON *status = NULL;

        code = control_client_ask_or_say(cli, request, &status, NULL);
        if (code == CLI_DONE)
            verdict = judge(wish, status);
        cJSON_Delete(status);
        if (verdict == NOT_YET && clock_monotonic_ms() > deadline)
            verdict = FAILED;
        if (verdict == NOT_YET)
            poll(NULL, 0, LOOK_AGAIN_MS);
    }
    if (verdict == FAILED)
        code = cli_fail(CLI_FAILED, "%s", buf_text(&wish->obstacle));
    cJSON_Delete(request);
    return code;
}

static void print_done(const struct cli *cli, const struct wish *wish, const char *done)
{
    const cJSON *process;
    struct buf text = {0};

    if (cli->json) {
        control_client_print(wish->answer);
        return;
    }
    cJSON_ArrayForEach(process, cJSON_GetObjectItemCaseSensitive(wish->answer, "processes"))
    {
        buf_append_char(&text, ' ');
        render_title(&text, process);
    }
    printf("%s:%s\n", done, buf_text(&text));
    buf_free(&text);
}

static int wish_for(struct cli *cli, cJSON *request, const char *done)
{
    cJSON *answer = NULL;
    int code = control_client_ask_or_say(cli, request, &answer, NULL);

    if (code == CLI_DONE) {
        struct wish wish = {.verb = control_client_text(request, "verb"), .answer = answer};

        code = watch(cli, &wish);
        if (code == CLI_DONE)
            print_done(cli, &wish, done);
        buf_free(&wish.obstacle);
        buf_free(&wish.left);
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}

static cJSON *request_for(struct cli *cli, const char *verb, int argc, char **argv)
{
    cJSON *request = control_client_request(cli, verb);

    struct buf names = {0};

    for (int i = 0; i < argc; i++)
        buf_printf(&names, "%s%s", i > 0 ? " " : "", argv[i]);
    if (argc > 0)
        cJSON_AddStringToObject(request, "target", buf_text(&names));
    buf_free(&names);
    return request;
}

int verb_start(struct cli *cli, int argc, char **argv)
{
    return wish_for(cli, request_for(cli, "start", argc, argv), "running");
}

int verb_restart(struct cli *cli, int argc, char **argv)
{
    return wish_for(cli, request_for(cli, "restart", argc, argv), "restarted");
}

/* The supervisor keeps the connection until it has ended; but a connection can end without that. It has
 * ended when nobody listens any more, or another does. */
static int await_end(struct cli *cli, int connection, double pid)
{
    struct pollfd end = {.fd = connection, .events = POLLIN};
    cJSON *request = control_client_request(cli, "status");
    int code = CLI_DONE;

    while (poll(&end, 1, -1) < 0)
        continue;
    while (code == CLI_DONE) {
        cJSON *status = NULL;
        struct error err = {0};
        int result = control_client_ask(cli_socket(cli), request, &status, NULL, &err);
        double other = control_client_number(status, "pid");

        cJSON_Delete(status);
        if (result == -ERR_NOT_FOUND || (result == 0 && (other > pid || other < pid)))
            break;
        if (result < 0)
            code = cli_fail(CLI_FAILED, "it may still be stopping: %s", err.text);
        else
            poll(NULL, 0, LOOK_AGAIN_MS);
    }
    cJSON_Delete(request);
    return code;
}

static int stop_all(struct cli *cli)
{
    cJSON *request = control_client_request(cli, "stop");
    cJSON *answer = NULL;
    int connection = -1;
    int code = control_client_ask_or_say(cli, request, &answer, &connection);

    if (code == CLI_DONE) {
        code = await_end(cli, connection, control_client_number(answer, "pid"));
        close(connection);
    }
    if (code == CLI_DONE && cli->json)
        control_client_print(answer);
    else if (code == CLI_DONE)
        puts("stopped");
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}

int verb_stop(struct cli *cli, int argc, char **argv)
{
    if (argc == 0)
        return stop_all(cli);
    return wish_for(cli, request_for(cli, "stop", argc, argv), "stopped");
}

int verb_scale(struct cli *cli, int argc, char **argv)
{
    uint64_t count = 0;
    cJSON *answer = NULL;

    (void)argc;
    if (!bytes_to_u64(bytes_of(argv[0]), &count) || count > 100000)
        return cli_fail(CLI_USAGE, "scale %s: takes how many workers are to run, a number from 0",
                        argv[0]);
    cJSON *request = control_client_request(cli, "scale");
    cJSON_AddNumberToObject(request, "count", (double)count);
    int code = control_client_ask_or_say(cli, request, &answer, NULL);
    if (code == CLI_DONE) {
        struct wish wish = {.verb = "scale", .answer = answer, .workers = (int64_t)count};

        code = watch(cli, &wish);
        if (code == CLI_DONE && cli->json)
            control_client_print(answer);
        else if (code == CLI_DONE)
            printf("workers: %llu\n", (unsigned long long)count);
        buf_free(&wish.obstacle);
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}

int verb_reload(struct cli *cli, int argc, char **argv)
{
    cJSON *request = control_client_request(cli, "reload");
    cJSON *answer = NULL;

    (void)argc;
    (void)argv;
    int code = control_client_ask_or_say(cli, request, &answer, NULL);
    if (code == CLI_DONE && cli->json)
        control_client_print(answer);
    else if (code == CLI_DONE)
        printf("settings reloaded, restarted: %.0f\n", control_client_number(answer, "restarted"));
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}

int verb_signal(struct cli *cli, int argc, char **argv)
{
    cJSON *request = request_for(cli, "signal", argc - 1, argv);
    cJSON *answer = NULL;

    cJSON_AddStringToObject(request, "signal", argv[argc - 1]);
    int code = control_client_ask_or_say(cli, request, &answer, NULL);
    if (code == CLI_DONE) {
        const struct wish wish = {.answer = answer};

        print_done(cli, &wish, "sent to");
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}
