#include "cli/control_client.h"

#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S   10
#define ROOTS_SOCKET "/var/lib/mqtt-bridge/control.sock"

cJSON *control_client_request(struct cli *cli, const char *verb)
{
    cJSON *request = cJSON_CreateObject();

    cJSON_AddStringToObject(request, "verb", verb);
    cli_socket(cli); /* loads the settings */
    char *state_dir =
        cli->settings != NULL ? realpath(cli->settings->supervisor.state_dir, NULL) : NULL;
    if (state_dir != NULL)
        cJSON_AddStringToObject(request, "bridge", state_dir);
    free(state_dir);
    return request;
}

/* The folder's owner runs the bridge, unless anybody could have made the folder there. */
static bool is_folders_owner(const char *path, uid_t uid)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup("./");
    char *above = xasprintf("%s..", folder);
    struct stat inner;
    struct stat outer;
    bool known = stat(folder, &inner) == 0 && stat(above, &outer) == 0 &&
                 (inner.st_mode & S_IWOTH) == 0 && (outer.st_mode & S_IWOTH) == 0;
    bool is = known && (inner.st_uid == uid ||
                        /* OpenShift: any user, in the group root. */
                        (inner.st_gid == 0 && (inner.st_mode & S_IWGRP) != 0));

    free(folder);
    free(above);
    return is;
}

/* Whoever made the folder first could listen there, and be believed. */
static int check_listener(int fd, const char *path, struct error *err)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return error_system(err, "%s", path);
    if (peer.uid == 0 || peer.uid == geteuid() ||
        (geteuid() == 0 && is_folders_owner(path, peer.uid)))
        return 0;
    return error_set(err, ERR_USAGE,
                     "%s: a program of user %u listens there, who can't be the bridge's: not asked",
                     path, (unsigned)peer.uid);
}

static bool may_not_enter(const char *path)
{
    return geteuid() != 0 && access(path, F_OK) < 0 && errno == EACCES;
}

static int connect_failed(const char *path, struct error *err)
{
    if (errno == EACCES)
        return error_set(err, ERR_SYSTEM,
                         "the bridge of %s is another user's, and you may not use it: try as that "
                         "user, or as root",
                         path);
    if (errno != ENOENT && errno != ECONNREFUSED && errno != ENOTDIR)
        return error_system(err, "%s", path);
    return error_set(err, ERR_NOT_FOUND, "the bridge is not running (nobody listens on %s)%s", path,
                     may_not_enter(ROOTS_SOCKET) ? "; root's would be at " ROOTS_SOCKET
                                                   ", which you may not use"
                                                 : "");
}

static int connect_to(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = PATIENCE_S};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_USAGE, "[supervisor] socket: %s: too long", path);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_system(err, "socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    int result = connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0
                     ? check_listener(fd, path, err)
                     : connect_failed(path, err);
    if (result == 0)
        return fd;
    close(fd);
    return result;
}

static int failed(struct error *err, const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return error_set(err, ERR_UNREACHABLE, "the supervisor does not answer");
    return error_system(err, "%s", what);
}

static int send_request(int fd, const cJSON *request, struct error *err)
{
    char *text = cJSON_PrintUnformatted(request);
    struct buf line = {0};
    int result = 0;

    buf_append_text(&line, text != NULL ? text : "");
    buf_append_char(&line, '\n');
    cJSON_free(text);
    for (size_t sent = 0; sent < line.len && result == 0;) {
        ssize_t now = send(fd, line.data + sent, line.len - sent, MSG_NOSIGNAL);

        if (now >= 0)
            sent += (size_t)now;
        else if (errno != EINTR)
            result = failed(err, "control socket");
    }
    buf_free(&line);
    return result;
}

static int read_line(int fd, struct buf *line, struct error *err)
{
    for (;;) {
        char *room = buf_reserve(line, 4096);
        ssize_t got = recv(fd, room, 4096, 0);

        if (got == 0)
            return error_set(err, ERR_FORMAT,
                             "the supervisor closed the connection without an answer");
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return failed(err, "control socket");
        line->len += (size_t)got;
        if (memchr(room, '\n', (size_t)got) != NULL)
            return 0;
    }
}

static int read_answer(int fd, cJSON **answer, struct error *err)
{
    struct buf line = {0};
    int result = read_line(fd, &line, err);

    *answer = NULL;
    if (result == 0) {
        *answer = cJSON_Parse(buf_text(&line));
        if (!cJSON_IsObject(*answer))
            result = error_set(err, ERR_FORMAT, "the supervisor's answer is not JSON");
        else if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(*answer, "ok")))
            result = error_set(err, ERR_REFUSED, "%s", control_client_text(*answer, "error"));
    }
    buf_free(&line);
    return result;
}

int control_client_ask(const char *path, const cJSON *request, cJSON **answer, int *connection,
                       struct error *err)
{
    int fd = connect_to(path, err);

    *answer = NULL;
    if (fd < 0)
        return fd;
    int result = send_request(fd, request, err);
    if (result == 0)
        result = read_answer(fd, answer, err);
    if (connection != NULL && result == 0)
        *connection = fd;
    else
        close(fd);
    return result;
}

static void say_failure(struct cli *cli, const struct error *err, const cJSON *answer)
{
    /* A refusal may be longer than an error's text: the faults of a reload, a line each. */
    if (err->code == ERR_NOT_FOUND && cli->faults.len > 0)
        settings_print_lines("mqtt-bridge", "", &cli->faults);
    else if (err->code == ERR_REFUSED && cli->json)
        control_client_print(answer);
    else if (err->code == ERR_REFUSED)
        fprintf(stderr, "mqtt-bridge: %s\n", control_client_text(answer, "error"));
    else
        cli_fail(CLI_FAILED, "%s", err->text);
}

static int failure_code(const struct cli *cli, const struct error *err, const cJSON *answer)
{
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "unknown")))
        return CLI_USAGE;
    if (cli->faults.len > 0 && err->code == ERR_NOT_FOUND)
        return CLI_USAGE;
    if (cli->faults.len > 0 && err->code == ERR_REFUSED && strcmp(cli->verb->name, "reload") == 0)
        return CLI_USAGE; /* it has named them */
    return err->code == ERR_NOT_FOUND ? CLI_NOT_RUNNING : CLI_FAILED;
}

int control_client_ask_or_say(struct cli *cli, const cJSON *request, cJSON **answer,
                              int *connection)
{
    const char *path = cli_socket(cli);
    struct error err = {.code = ERR_NOT_FOUND};
    int result = -ERR_NOT_FOUND;

    *answer = NULL;
    if (path != NULL)
        result = control_client_ask(path, request, answer, connection, &err);
    if (result == 0)
        return CLI_DONE;
    if (!cli->quiet)
        say_failure(cli, &err, *answer);
    int code = failure_code(cli, &err, *answer);
    cJSON_Delete(*answer);
    *answer = NULL;
    return code;
}

void control_client_print(const cJSON *answer)
{
    char *text = cJSON_PrintUnformatted(answer);

    puts(text != NULL ? text : "{}");
    cJSON_free(text);
}

const char *control_client_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsString(item) ? item->valuestring : "";
}

double control_client_number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}
