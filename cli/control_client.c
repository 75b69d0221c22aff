#include "cli/control_client.h"

#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PACKET_MAX   65536
#define ANSWER_MAX   (64 << 20)
#define ROOTS_SOCKET "/var/lib/mqtt-bridge/control.sock"

cJSON *control_client_request(struct cli *cli, const char *verb)
{
    cJSON *request = cJSON_CreateObject();

    cJSON_AddStringToObject(request, "verb", verb);
    cli_socket(cli); /* loads cli->settings */
    char *state_dir =
        cli->settings != NULL ? realpath(cli->settings->supervisor.state_dir, NULL) : NULL;
    if (state_dir != NULL)
        cJSON_AddStringToObject(request, "bridge", state_dir);
    free(state_dir);
    return request;
}

/* True if only a trusted user can have made the socket: the folder's owner. On OpenShift any
 * user of the group root may be one. Neither the folder nor the one above may be writable by
 * everybody. */
static bool may_listen_there(const char *path, const struct ucred *peer)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup("./");
    char *above = xasprintf("%s..", folder);
    struct stat inner;
    struct stat outer;
    bool known = stat(folder, &inner) == 0 && stat(above, &outer) == 0 &&
                 (inner.st_mode & S_IWOTH) == 0 && (outer.st_mode & S_IWOTH) == 0;
    bool may = known && (inner.st_uid == peer->uid ||
                         (inner.st_gid == 0 && peer->gid == 0 && (inner.st_mode & S_IWGRP) != 0));

    free(folder);
    free(above);
    return may;
}

/* Checks the user that listens. Another user could have made the socket's folder first, to
 * listen there in the bridge's place. */
static int check_listener(int fd, const char *path, struct error *err)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return error_system(err, "%s", path);
    if (peer.uid == 0 || peer.uid == geteuid() || (geteuid() == 0 && may_listen_there(path, &peer)))
        return 0;
    return error_set(err, ERR_USAGE,
                     "%s: a program of user %u listens there, who can't be the bridge's: not asked",
                     path, (unsigned)peer.uid);
}

static bool lacks_access(const char *path)
{
    return geteuid() != 0 && access(path, F_OK) < 0 && errno == EACCES;
}

static int connect_failed(const char *path, struct error *err)
{
    if (errno == EPROTOTYPE)
        return error_set(err, ERR_SYSTEM,
                         "%s: a bridge of another version listens there: end it by a signal", path);
    if (errno == EACCES)
        return error_set(err, ERR_SYSTEM,
                         "the bridge of %s is another user's, and you may not use it: try as that "
                         "user, or as root",
                         path);
    if (errno != ENOENT && errno != ECONNREFUSED && errno != ENOTDIR)
        return error_system(err, "%s", path);
    return error_set(err, ERR_NOT_FOUND, "the bridge is not running (nobody listens on %s)%s", path,
                     lacks_access(ROOTS_SOCKET) ? "; root's would be at " ROOTS_SOCKET
                                                  ", which you may not use"
                                                : "");
}

static int connect_to(const char *path, int patience_s, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = patience_s};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_USAGE, "[supervisor] socket: %s: too long", path);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
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
    size_t len = text != NULL ? strlen(text) : 0;
    bool fits = len > 0 && len <= PACKET_MAX;
    int result = 0;

    if (!fits)
        result = error_set(err, ERR_USAGE, "the request is longer than 64 KB");
    else if (send(fd, text, len, MSG_NOSIGNAL) < 0)
        result = failed(err, "control socket");
    cJSON_free(text);
    return result;
}

/* Reads a long answer, which came as a descriptor of memory. */
static int read_memory(int memory, struct buf *out, struct error *err)
{
    buf_clear(out);
    if (file_read_fd(memory, "answer", ANSWER_MAX, out, err) < 0)
        return error_set(err, ERR_FORMAT, "the supervisor's answer is not to be read");
    return 0;
}

static int read_packet(int fd, struct buf *out, struct error *err)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights;
    struct iovec part = {buf_reserve(out, PACKET_MAX), PACKET_MAX};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof(rights)};
    ssize_t got;
    int result = 0;

    do {
        got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno != ECONNRESET)
        return failed(err, "control socket");
    if (got <= 0)
        return error_set(err, ERR_FORMAT, "the supervisor closed the connection without an answer");
    out->len = (size_t)got;
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        int memory;

        memcpy(&memory, CMSG_DATA(head), sizeof(memory));
        result = read_memory(memory, out, err);
        close(memory);
    }
    return result;
}

static int read_answer(int fd, cJSON **answer, struct error *err)
{
    struct buf text = {0};
    int result = read_packet(fd, &text, err);

    if (result == 0) {
        *answer = cJSON_Parse(buf_text(&text));
        if (!cJSON_IsObject(*answer))
            result = error_set(err, ERR_FORMAT, "the supervisor's answer is not JSON");
        else if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(*answer, "ok")))
            result = error_set(err, ERR_REFUSED, "%s", control_client_text(*answer, "error"));
    }
    buf_free(&text);
    return result;
}

int control_client_ask(const char *path, const cJSON *request, int patience_s, cJSON **answer,
                       struct error *err)
{
    int fd = connect_to(path, patience_s, err);

    *answer = NULL;
    if (fd < 0)
        return fd;
    int result = send_request(fd, request, err);
    if (result == 0)
        result = read_answer(fd, answer, err);
    close(fd);
    return result;
}

static void report_failure(struct cli *cli, const struct error *err, const cJSON *answer)
{
    /* The answer's text is used for a refusal: a reload's faults, one a line, are too long for
     * `err`. */
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
        return CLI_USAGE; /* the answer names the faults */
    return err->code == ERR_NOT_FOUND ? CLI_NOT_RUNNING : CLI_FAILED;
}

int control_client_ask_or_report(struct cli *cli, const cJSON *request, cJSON **answer)
{
    const char *path = cli_socket(cli);
    /* A verb that steers is answered when the change is done. The supervisor limits that time. */
    int patience_s = cli->verb->group == VERB_STEER ? 0 : CONTROL_CLIENT_PATIENCE_S;
    struct error err = {.code = ERR_NOT_FOUND};
    int result = -ERR_NOT_FOUND;

    *answer = NULL;
    if (path != NULL)
        result = control_client_ask(path, request, patience_s, answer, &err);
    if (result == 0)
        return CLI_DONE;
    if (!cli->quiet)
        report_failure(cli, &err, *answer);
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
