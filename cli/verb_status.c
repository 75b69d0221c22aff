/* status and top: the processes and the queue, once or redrawn every second until `q`. */
#include "cli/control_client.h"
#include "cli/render.h"
#include "cli/verbs.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
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

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

/* Keys come one by one and unseen; a signal ends the watching, so that the terminal is as before. */
static bool take_keys(struct termios *former)
{
    const struct sigaction action = {.sa_handler = end};
    struct termios keys;

    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, former) < 0)
        return false;
    keys = *former;
    keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
}

/* Until the picture is to be drawn again; true: a person has had enough. */
static bool wait_for_quit(bool keys)
{
    struct pollfd input = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
    char key = '\0';

    if (poll(&input, 1, REDRAW_MS) <= 0)
        return ended;
    return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q';
}

static void watch_status(struct cli *cli, const cJSON *request)
{
    struct termios former;
    bool keys = take_keys(&former);

    while (!ferror(stdout) && !wait_for_quit(keys))
        redraw(cli, request);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &former);
}

int verb_status(struct cli *cli, int argc, char **argv)
{
    bool watch = cli_option(cli, "watch") != NULL || strcmp(cli->verb->name, "top") == 0;
    cJSON *request = control_client_request(cli, "status");

    (void)argc;
    (void)argv;
    int code = show_once(cli, request);
    if (watch && code == CLI_DONE)
        watch_status(cli, request);
    cJSON_Delete(request);
    return code;
}
