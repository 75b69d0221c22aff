/* The verbs status and top show the processes and the queue, once or redrawn every second until `q`.
 *
 * On a terminal top has its own screen, and restores the terminal whichever way it ends: a key, a
 * signal, the end of the terminal. In other output one status follows the other. */
#include "cli/control_client.h"
#include "cli/render.h"
#include "cli/verbs.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER      "\033[?1049h\033[?25l" /* the other screen, without a cursor */
#define LEAVE      "\033[?25h\033[?1049l"
#define HOME       "\033[H"
#define CLEAR_REST "\033[J"
#define CLEAR_LINE "\033[K"

#define REDRAW_MS  1000
#define PATIENCE_S 2 /* seconds to wait for a status */

struct top {
    struct cli *cli;
    bool screen; /* the output is a terminal */
    bool keys;   /* the input is one; `former` has its old state */
    struct termios former;
    char key; /* key of the column to sort by; '0': unsorted */
    bool reverse;
};

static volatile sig_atomic_t ended;
static volatile sig_atomic_t paused;

static void take_signal(int number)
{
    if (number == SIGTSTP)
        paused = 1;
    else if (number != SIGWINCH) /* SIGWINCH only ends the wait */
        ended = 1;
}

static void take_signals(void)
{
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH, SIGPIPE};
    const struct sigaction action = {.sa_handler = take_signal};

    for (size_t i = 0; i < LENGTH_OF(SIGNALS); i++)
        sigaction(SIGNALS[i], &action, NULL);
}

/* Shows the other screen, and sets the terminal to read single keys without an echo. */
static void enter(struct top *top)
{
    struct termios keys;

    take_signals();
    fputs(ENTER, stdout);
    top->keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &top->former) == 0;
    keys = top->former;
    keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    if (top->keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &keys);
}

static void leave(const struct top *top)
{
    fputs(LEAVE, stdout);
    fflush(stdout);
    if (top->keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &top->former);
}

/* After Ctrl-Z the shell gets the terminal in its old state. */
static void pause_for_shell(struct top *top)
{
    leave(top);
    paused = 0;
    signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP);
    enter(top);
}

static void append_help(struct buf *out, const struct top *top)
{
    const char *by = render_key(top->key);

    buf_printf(out, "%s%s%s · name state uptime resTarts crashes rate done failed memory · quit",
               by != NULL ? "by " : "unsorted", by != NULL ? by : "",
               top->reverse ? ", reversed" : "");
}

static void draw(const struct top *top, struct buf *text)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct buf picture = {0};

    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    size_t columns = size.ws_col > 0 ? size.ws_col : 80;
    size_t rows = size.ws_row > 3 ? size.ws_row : 24;
    render_clip(&picture, buf_bytes(text), columns, rows - 2);
    buf_clear(text);
    append_help(text, top);
    buf_append_char(&picture, '\n');
    render_clip(&picture, buf_bytes(text), columns, 1);
    fputs(HOME, stdout);
    for (size_t i = 0; i < picture.len; i++) {
        if (picture.data[i] == '\n')
            fputs(CLEAR_LINE, stdout);
        putchar(picture.data[i]);
    }
    fputs(CLEAR_LINE CLEAR_REST, stdout);
    buf_free(&picture);
}

/* Shows the status once. If the service can't be asked, the error is shown: a restarting service
 * answers a later request. */
static void show(const struct top *top, const cJSON *request)
{
    cJSON *status = NULL;
    struct error err = {0};
    struct buf text = {0};

    if (control_client_ask(cli_socket(top->cli), request, PATIENCE_S, &status, &err) < 0) {
        buf_printf(&text, "mqtt-bridge: %s\n", err.text);
    } else {
        render_sort(status, top->key, top->reverse);
        render_status(&text, status, top->cli->color);
    }
    if (top->screen)
        draw(top, &text);
    else if (status != NULL && top->cli->json)
        control_client_print(status);
    else
        fwrite(text.data, 1, text.len, status != NULL ? stdout : stderr);
    fflush(stdout);
    buf_free(&text);
    cJSON_Delete(status);
}

/* Waits for a key or the time of the next drawing. Returns false if the user quits. */
static bool wait_for_key(struct top *top)
{
    struct pollfd input = {.fd = top->keys ? STDIN_FILENO : -1, .events = POLLIN};
    char key = '\0';

    if (poll(&input, 1, REDRAW_MS) <= 0)
        return true;
    if (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q')
        return false;
    if (key == '0' || render_key(key) != NULL) {
        top->reverse = key == top->key && key != '0' && !top->reverse;
        top->key = key;
    }
    return true;
}

static void watch(struct cli *cli, const cJSON *request)
{
    struct top top = {.cli = cli, .screen = isatty(STDOUT_FILENO) && !cli->json, .key = '0'};

    if (top.screen)
        enter(&top);
    do {
        if (paused)
            pause_for_shell(&top);
        show(&top, request);
    } while (!ferror(stdout) && !ended && wait_for_key(&top) && !ended);
    if (top.screen)
        leave(&top);
}

int verb_status(struct cli *cli)
{
    bool watched = cli_option(cli, "watch") != NULL || strcmp(cli->verb->name, "top") == 0;
    cJSON *request = control_client_request(cli, "status");
    cJSON *status = NULL;
    struct buf text = {0};
    int code = control_client_ask_or_report(cli, request, &status);

    if (code == CLI_DONE && watched) {
        watch(cli, request);
    } else if (code == CLI_DONE && cli->json) {
        control_client_print(status);
    } else if (code == CLI_DONE) {
        render_status(&text, status, cli->color);
        fwrite(text.data, 1, text.len, stdout);
    }
    buf_free(&text);
    cJSON_Delete(status);
    cJSON_Delete(request);
    return code;
}
