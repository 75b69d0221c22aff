/* status and top: the processes and the queue, once or redrawn every second. */
#include "cli/control_client.h"
#include "cli/render.h"
#include "cli/verbs.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOME_AND_CLEAR "\033[H\033[J"
#define REDRAW_MS      1000

static void show(const struct cli *cli, const cJSON *status)
{
    struct buf text = {0};

    if (cli->json) {
        control_client_print(status);
        return;
    }
    render_status(&text, status, cli->color);
    fwrite(text.data, 1, text.len, stdout);
    buf_free(&text);
}

static int show_once(struct cli *cli, const cJSON *request)
{
    cJSON *status = NULL;
    int code = control_client_ask_or_say(cli, request, &status, NULL);

    if (code == CLI_DONE)
        show(cli, status);
    cJSON_Delete(status);
    return code;
}

/* The service may be restarted meanwhile: said, and tried again. */
static void redraw(struct cli *cli, const cJSON *request)
{
    cJSON *status = NULL;
    struct error err = {0};
    bool screen = isatty(STDOUT_FILENO) && !cli->json;
    const char *path = cli_socket(cli);

    int result = control_client_ask(path, request, &status, NULL, &err);
    if (screen)
        fputs(HOME_AND_CLEAR, stdout);
    if (result == 0)
        show(cli, status);
    else
        fprintf(screen ? stdout : stderr, "mqtt-bridge: %s\n", err.text);
    fflush(stdout);
    cJSON_Delete(status);
}

int verb_status(struct cli *cli, int argc, char **argv)
{
    bool watch = cli_option(cli, "watch") != NULL || strcmp(cli->verb->name, "top") == 0;
    cJSON *request = control_client_request("status");

    (void)argc;
    (void)argv;
    int code = show_once(cli, request);
    while (watch && code == CLI_DONE && !ferror(stdout)) {
        poll(NULL, 0, REDRAW_MS);
        redraw(cli, request);
    }
    cJSON_Delete(request);
    return code;
}
