#include "supervisor/control.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "supervisor/account.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

struct client {
    int fd;
    int64_t deadline_ms; /* -1: none */
    struct buf request;
    struct buf reply;
    size_t sent;
    bool answered;
    bool stays; /* after the reply, until the service has ended */
    bool gone;
};

struct control {
    int listen_fd;
    int epoll_fd;
    char *path;
    control_answer *answer;
    void *context;
    struct client *clients[CONTROL_CLIENTS_MAX]; /* the oldest first */
    size_t clients_len;
    int64_t resume_ms; /* out of descriptors: does not listen until then; -1: listens */
};

static bool parse_target(const cJSON *object, struct control_request *request, struct error *err)
{
    const cJSON *target = cJSON_GetObjectItemCaseSensitive(object, "target");

    if (target == NULL || cJSON_IsNull(target))
        return true;
    if (!cJSON_IsString(target) || target->valuestring[0] == '\0' ||
        strlen(target->valuestring) >= sizeof(request->target)) {
        error_set(err, ERR_USAGE, "target: must be the name of a process");
        return false;
    }
    snprintf(request->target, sizeof(request->target), "%s", target->valuestring);
    return true;
}

static bool parse_bridge(const cJSON *object, struct control_request *request, struct error *err)
{
    const cJSON *bridge = cJSON_GetObjectItemCaseSensitive(object, "bridge");

    if (bridge == NULL || cJSON_IsNull(bridge))
        return true;
    if (!cJSON_IsString(bridge) || bridge->valuestring[0] == '\0' ||
        strlen(bridge->valuestring) >= sizeof(request->bridge)) {
        error_set(err, ERR_USAGE, "bridge: must be a state directory");
        return false;
    }
    snprintf(request->bridge, sizeof(request->bridge), "%s", bridge->valuestring);
    return true;
}

/* "TERM", "SIGTERM", "15". */
static bool parse_signal(const cJSON *object, struct control_request *request, struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "signal");
    const char *text = cJSON_IsString(item) ? item->valuestring : "";
    const char *name = strncmp(text, "SIG", 3) == 0 ? text + 3 : text;
    uint64_t number = 0;

    if (!bytes_to_u64(bytes_of(text), &number) || number >= NSIG)
        number = 0;
    for (int i = 1; i < NSIG && number == 0; i++)
        if (sigabbrev_np(i) != NULL && strcmp(sigabbrev_np(i), name) == 0)
            number = (uint64_t)i;
    if (number == 0) {
        error_set(err, ERR_USAGE, "signal: must be a name, as TERM or USR1");
        return false;
    }
    request->signal = (int)number;
    return true;
}

static bool parse_count(const cJSON *object, struct control_request *request, struct error *err)
{
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(object, "count");

    if (!cJSON_IsNumber(count) || !(count->valuedouble >= 0 && count->valuedouble <= 100000) ||
        count->valuedouble > count->valueint || count->valuedouble < count->valueint) {
        error_set(err, ERR_USAGE, "count: must be a whole number from 0");
        return false;
    }
    request->count = count->valueint;
    return true;
}

static bool parse_object(const cJSON *object, struct control_request *request, struct error *err)
{
    static const char *const VERBS[CONTROL_VERBS_LEN] = {
        "status", "health", "start", "stop", "restart", "scale", "reload", "events", "signal"};
    const cJSON *verb = cJSON_GetObjectItemCaseSensitive(object, "verb");
    size_t i = 0;

    if (!cJSON_IsObject(object) || !cJSON_IsString(verb)) {
        error_set(err, ERR_FORMAT, "a request is an object with a verb: {\"verb\":\"status\"}");
        return false;
    }
    while (i < CONTROL_VERBS_LEN && strcmp(VERBS[i], verb->valuestring) != 0)
        i++;
    if (i == CONTROL_VERBS_LEN) {
        error_set(err, ERR_USAGE, "verb: unknown");
        return false;
    }
    request->verb = (enum control_verb)i;
    if (!parse_bridge(object, request, err))
        return false;
    if (request->verb == CONTROL_SIGNAL && !parse_signal(object, request, err))
        return false;
    if (request->verb == CONTROL_SCALE)
        return parse_count(object, request, err);
    return parse_target(object, request, err);
}

int control_parse(struct bytes line, struct control_request *request, struct error *err)
{
    *request = (struct control_request){0};
    if (line.len == 0 || memchr(line.data, '\0', line.len) != NULL)
        return error_set(err, ERR_FORMAT, "not a line of JSON");
    char *text = xstrndup(line.data, line.len);
    cJSON *object = cJSON_ParseWithOpts(text, NULL, true);
    free(text);
    if (object == NULL)
        return error_set(err, ERR_FORMAT, "not a line of JSON");
    bool good = parse_object(object, request, err);
    cJSON_Delete(object);
    return good ? 0 : -(int)err->code;
}

/* -ERR_LOCKED: a program listens on the socket file. */
static int refuse_listener(const struct sockaddr_un *address, struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    int result = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    int why = result < 0 ? errno : 0;
    close(fd);
    if (why == EACCES && (result = account_refuse_foreign("socket", address->sun_path, err)) < 0)
        return result;
    /* EAGAIN: the listener's queue is full, so there is one. */
    if (why == 0 || why == EAGAIN || why == EACCES)
        return error_set(err, ERR_LOCKED, "[supervisor] socket: %s: another service listens on it",
                         address->sun_path);
    return 0;
}

static int open_socket(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERR_USAGE,
                         "[supervisor] socket: %s: longer than the system allows (%zu bytes)", path,
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    int refused = refuse_listener(&address, err);
    if (refused < 0)
        return refused;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_system(err, "socket");
    unlink(path);
    mode_t mask = umask(0177);
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (bound < 0 || listen(fd, BACKLOG) < 0) {
        error_system(err, "[supervisor] socket: %s", path);
        close(fd);
        return -ERR_SYSTEM;
    }
    return fd;
}

static int watch(const struct control *control, int operation, int fd, uint32_t events, void *who)
{
    struct epoll_event event = {.events = events, .data.ptr = who};

    return epoll_ctl(control->epoll_fd, operation, fd, &event);
}

int control_open(struct control **control, const char *path, control_answer *answer, void *context,
                 struct error *err)
{
    int fd = open_socket(path, err);

    if (fd < 0)
        return fd;
    struct control *made = xcalloc(1, sizeof(*made));
    *made = (struct control){.listen_fd = fd,
                             .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                             .path = xstrdup(path),
                             .answer = answer,
                             .context = context,
                             .resume_ms = -1};
    if (made->epoll_fd < 0 || watch(made, EPOLL_CTL_ADD, fd, EPOLLIN, NULL) < 0) {
        error_system(err, "epoll");
        control_close(made);
        return -ERR_SYSTEM;
    }
    *control = made;
    return 0;
}

static void drop(struct control *control, size_t index)
{
    struct client *client = control->clients[index];

    /* Closing is not enough: a child between fork and exec has the connection too. While it does, events of
     * the connection would come, for a client that is freed. */
    epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
    close(client->fd);
    buf_free(&client->request);
    buf_free(&client->reply);
    free(client);
    control->clients_len--;
    for (size_t i = index; i < control->clients_len; i++)
        control->clients[i] = control->clients[i + 1];
}

static void answer_error(struct client *client, const char *text)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddBoolToObject(object, "ok", false);
    cJSON_AddStringToObject(object, "error", text);
    char *printed = cJSON_PrintUnformatted(object);
    buf_append_text(&client->reply, printed != NULL ? printed : "{\"ok\":false}");
    cJSON_free(printed);
    cJSON_Delete(object);
}

static bool is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

/* Drops the oldest client for a new one, but none that waits for the end of the service. */
static bool make_room(struct control *control)
{
    size_t oldest = 0;

    if (control->clients_len < CONTROL_CLIENTS_MAX)
        return true;
    while (oldest < control->clients_len && control->clients[oldest]->stays)
        oldest++;
    if (oldest == control->clients_len)
        return false;
    drop(control, oldest);
    return true;
}

static void accept_client(struct control *control, int64_t now_ms)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            watch(control, EPOLL_CTL_DEL, control->listen_fd, 0, NULL);
            control->resume_ms = now_ms + 1000;
        }
        return;
    }
    if (!is_allowed(fd) || !make_room(control)) {
        close(fd);
        return;
    }
    struct client *client = xcalloc(1, sizeof(*client));
    client->fd = fd;
    client->deadline_ms = now_ms + CONTROL_TIMEOUT_MS;
    if (watch(control, EPOLL_CTL_ADD, fd, EPOLLIN, client) < 0) {
        close(fd);
        free(client);
        return;
    }
    control->clients[control->clients_len++] = client;
}

static void answer_line(struct control *control, struct client *client, struct bytes line)
{
    struct control_request request;
    struct error err = {0};

    client->answered = true;
    if (control_parse(line, &request, &err) < 0)
        answer_error(client, err.text);
    else
        client->stays = control->answer(control->context, &request, &client->reply);
    buf_append_char(&client->reply, '\n');
    buf_free(&client->request);
    watch(control, EPOLL_CTL_MOD, client->fd, EPOLLIN | EPOLLOUT, client);
}

/* The client sends no more; a client that half closed the connection may still want the reply. */
static void read_end(struct control *control, struct client *client)
{
    if (!client->answered && client->request.len > 0)
        answer_line(control, client, buf_bytes(&client->request));
    client->stays = false;
    client->gone = client->sent >= client->reply.len;
    if (!client->gone)
        watch(control, EPOLL_CTL_MOD, client->fd, EPOLLOUT, client);
}

static void read_request(struct control *control, struct client *client)
{
    char bytes[4096];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), 0);

    if (got < 0) {
        client->gone = errno != EAGAIN && errno != EINTR;
        return;
    }
    if (got == 0) {
        read_end(control, client);
        return;
    }
    if (client->answered)
        return;
    const char *end = memchr(bytes, '\n', (size_t)got);
    size_t len = end != NULL ? (size_t)(end - bytes) : (size_t)got;
    if (client->request.len + len > CONTROL_REQUEST_MAX) {
        client->answered = true;
        buf_free(&client->request);
        answer_error(client, "the request is longer than 64 KB");
        buf_append_char(&client->reply, '\n');
        watch(control, EPOLL_CTL_MOD, client->fd, EPOLLIN | EPOLLOUT, client);
        return;
    }
    buf_append(&client->request, (struct bytes){bytes, len});
    if (end != NULL)
        answer_line(control, client, buf_bytes(&client->request));
}

static void send_reply(struct control *control, struct client *client)
{
    ssize_t sent = send(client->fd, client->reply.data + client->sent,
                        client->reply.len - client->sent, MSG_NOSIGNAL);

    if (sent < 0) {
        client->gone = errno != EAGAIN && errno != EINTR;
        return;
    }
    client->sent += (size_t)sent;
    if (client->sent < client->reply.len)
        return;
    client->gone = !client->stays;
    client->deadline_ms = -1;
    watch(control, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
}

static void expire(struct control *control, int64_t now_ms)
{
    for (size_t i = control->clients_len; i-- > 0;) {
        const struct client *client = control->clients[i];

        if (client->gone || (client->deadline_ms >= 0 && client->deadline_ms <= now_ms))
            drop(control, i);
    }
    if (control->resume_ms >= 0 && control->resume_ms <= now_ms) {
        control->resume_ms = -1;
        watch(control, EPOLL_CTL_ADD, control->listen_fd, EPOLLIN, NULL);
    }
}

void control_process(struct control *control, int64_t now_ms)
{
    struct epoll_event event;

    /* One event a call: a client that is dropped can't have a second event waiting. */
    if (epoll_wait(control->epoll_fd, &event, 1, 0) == 1) {
        struct client *client = event.data.ptr;

        if (client == NULL)
            accept_client(control, now_ms);
        else if (event.events & EPOLLOUT)
            send_reply(control, client);
        else if (event.events & EPOLLIN)
            read_request(control, client);
        else
            client->gone = true;
    }
    expire(control, now_ms);
}

int control_fd(const struct control *control)
{
    return control->epoll_fd;
}

int64_t control_deadline(const struct control *control)
{
    int64_t first = control->resume_ms;

    for (size_t i = 0; i < control->clients_len; i++)
        first = clock_earlier_ms(first, control->clients[i]->deadline_ms);
    return first;
}

void control_retire(struct control *control)
{
    if (control == NULL || control->listen_fd < 0)
        return;
    unlink(control->path);
    close(control->listen_fd);
    control->listen_fd = -1;
}

void control_close(struct control *control)
{
    if (control == NULL)
        return;
    control_retire(control);
    while (control->clients_len > 0)
        drop(control, control->clients_len - 1);
    if (control->epoll_fd >= 0)
        close(control->epoll_fd);
    free(control->path);
    free(control);
}
