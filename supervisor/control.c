#include "supervisor/control.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "supervisor/files.h"

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
    int64_t deadline_ms;             /* deadline of the request; -1: it has come */
    struct control_request *request; /* the request that waits for an answer; NULL: none */
};

struct control {
    int listen_fd;
    int epoll_fd;
    char *path;
    control_answer *answer;
    void *context;
    struct client *clients[CONTROL_CLIENTS_MAX + 1]; /* the oldest first */
    size_t clients_len;
    int64_t resume_ms; /* accepts no client until then for lack of a descriptor; -1: accepts */
};

/* Reads a text that may be missing; `what` is its name in the error. */
static bool parse_text(const cJSON *object, const char *name, const char *what, char *out,
                       size_t size, struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    if (item == NULL || cJSON_IsNull(item))
        return true;
    if (!cJSON_IsString(item) || item->valuestring[0] == '\0' ||
        strlen(item->valuestring) >= size) {
        error_set(err, ERR_USAGE, "%s: must be %s", name, what);
        return false;
    }
    snprintf(out, size, "%s", item->valuestring);
    return true;
}

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
    static const char *const VERBS[CONTROL_VERBS_LEN] = {"status",  "health", "start",  "stop",
                                                         "restart", "scale",  "reload", "events",
                                                         "log",     "signal", "upgrade"};
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
    request->wait = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(object, "wait"));
    if (!parse_text(object, "bridge", "a state directory", request->bridge, sizeof(request->bridge),
                    err))
        return false;
    if (request->verb == CONTROL_SIGNAL && !parse_signal(object, request, err))
        return false;
    if (request->verb == CONTROL_SCALE)
        return parse_count(object, request, err);
    return parse_text(object, "target", "the name of a process", request->target,
                      sizeof(request->target), err);
}

int control_parse(struct bytes packet, struct control_request *request, struct error *err)
{
    *request = (struct control_request){.deadline_ms = -1};
    if (packet.len == 0 || memchr(packet.data, '\0', packet.len) != NULL)
        return error_set(err, ERR_FORMAT, "not JSON");
    char *text = xstrndup(packet.data, packet.len);
    cJSON *object = cJSON_ParseWithOpts(text, NULL, true);
    free(text);
    if (object == NULL)
        return error_set(err, ERR_FORMAT, "not JSON");
    bool good = parse_object(object, request, err);
    cJSON_Delete(object);
    return good ? 0 : -(int)err->code;
}

/* Returns -ERR_LOCKED if a program listens on the socket's file. */
static int refuse_listener(const struct sockaddr_un *address, struct error *err)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    int result = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    int why = result < 0 ? errno : 0;
    close(fd);
    if (why == EACCES && (result = files_refuse_foreign("socket", address->sun_path, err)) < 0)
        return result;
    /* EAGAIN means a listener with a full queue, EPROTOTYPE a listener of another version. */
    if (why == 0 || why == EAGAIN || why == EACCES || why == EPROTOTYPE)
        return error_set(err, ERR_LOCKED, "[supervisor] socket: %s: another service listens on it",
                         address->sun_path);
    return 0;
}

/* Removes a socket that was left behind, but no other file that the setting may name by mistake. */
static int remove_left(const char *path, struct error *err)
{
    struct stat info;

    if (lstat(path, &info) < 0)
        return 0; /* bind will fail with the reason */
    if (!S_ISSOCK(info.st_mode))
        return error_set(err, ERR_USAGE,
                         "[supervisor] socket: %s is not a socket: name another path", path);
    unlink(path);
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
    if (refused == 0)
        refused = remove_left(path, err);
    if (refused < 0)
        return refused;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_system(err, "socket");
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

/* True if the socket handed over has this path. Otherwise it is closed, and its file removed. */
static bool listens_on(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
        strncmp(address.sun_path, path, sizeof(address.sun_path)) == 0)
        return true;
    close(fd);
    if (address.sun_path[0] != '\0')
        unlink(address.sun_path);
    return false;
}

int control_open(struct control **control, const char *path, int listen_fd, control_answer *answer,
                 void *context, struct error *err)
{
    bool handed = listen_fd >= 0 && listens_on(listen_fd, path);
    int fd = handed ? listen_fd : open_socket(path, err);

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

static void drop(struct control *control, struct client *client)
{
    size_t i = 0;

    /* Closing is not enough: a child between fork and exec also holds the connection. Meanwhile
     * events of the connection would come for a freed client. */
    epoll_ctl(control->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
    close(client->fd);
    while (control->clients[i] != client)
        i++;
    for (control->clients_len--; i < control->clients_len; i++)
        control->clients[i] = control->clients[i + 1];
    if (client->request != NULL)
        buf_free(&client->request->affected);
    free(client->request);
    free(client);
}

cJSON *control_refuse(const char *format, ...)
{
    cJSON *answer = cJSON_CreateObject();
    struct buf text = {0};
    va_list arguments;

    va_start(arguments, format);
    buf_vprintf(&text, format, arguments);
    va_end(arguments);
    cJSON_AddBoolToObject(answer, "ok", false);
    cJSON_AddStringToObject(answer, "error", buf_text(&text));
    buf_free(&text);
    return answer;
}

static void send_memory(int fd, struct bytes text)
{
    static char note[] = "{\"ok\":true}";
    int memory = file_in_memory("mqtt-bridge-answer", text);
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } rights = {.room = ""};
    struct iovec part = {note, sizeof(note) - 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof(rights)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    if (memory < 0)
        return;
    *head = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(head), &memory, sizeof(memory));
    (void)!sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(memory);
}

/* Sends the answer. A client that is gone or does not read loses the answer; a new connection
 * always has room for one. */
static void send_answer(int fd, cJSON *answer)
{
    char *text = cJSON_PrintUnformatted(answer);
    size_t len = text != NULL ? strlen(text) : 0;

    if (len > CONTROL_PACKET_MAX)
        send_memory(fd, (struct bytes){text, len});
    else if (len > 0)
        (void)!send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    cJSON_free(text);
    cJSON_Delete(answer);
}

static bool is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

/* Drops the oldest client that does not wait for an answer, to make room for a new one. */
static void make_room(struct control *control)
{
    size_t oldest = 0;

    if (control->clients_len < CONTROL_CLIENTS_MAX)
        return;
    while (oldest < control->clients_len && control->clients[oldest]->request != NULL)
        oldest++;
    if (oldest < control->clients_len)
        drop(control, control->clients[oldest]);
}

/* Adds a client. Returns NULL, with fd closed, if the descriptor can't be watched. */
static struct client *add_client(struct control *control, int fd, int64_t deadline_ms)
{
    struct client *client = xcalloc(1, sizeof(*client));

    *client = (struct client){.fd = fd, .deadline_ms = deadline_ms};
    if (watch(control, EPOLL_CTL_ADD, fd, EPOLLIN, client) < 0) {
        close(fd);
        free(client);
        return NULL;
    }
    control->clients[control->clients_len++] = client;
    return client;
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
    if (!is_allowed(fd)) {
        close(fd);
        return;
    }
    make_room(control);
    (void)add_client(control, fd, now_ms + CONTROL_TIMEOUT_MS);
}

static bool ends_service(const struct control_request *request)
{
    return request->verb == CONTROL_STOP && request->target[0] == '\0';
}

/* True if the client may wait. A stop of the service must always be possible, so that its
 * clients have extra room. */
static bool may_wait(const struct control *control, const struct control_request *request)
{
    size_t most = ends_service(request) ? CONTROL_CLIENTS_MAX : CONTROL_WAITING_MAX;
    size_t waiting = 0;

    for (size_t i = 0; i < control->clients_len; i++)
        waiting += control->clients[i]->request != NULL;
    return waiting < most;
}

/* Returns the answer to a client that can't wait. A stop of the service is begun nevertheless. */
static cJSON *refuse_to_wait(const struct control *control, struct control_request *request)
{
    if (!ends_service(request))
        return control_refuse("too many commands wait for their end already: nothing was done");
    request->wait = false;
    cJSON_Delete(control->answer(control->context, request));
    return control_refuse(
        "the service is stopping, but too many commands wait for its end already: "
        "`mqtt-bridge status` says whether it still runs");
}

static bool changes_something(enum control_verb verb)
{
    return verb == CONTROL_START || verb == CONTROL_STOP || verb == CONTROL_RESTART ||
           verb == CONTROL_SCALE || verb == CONTROL_RELOAD || verb == CONTROL_UPGRADE;
}

/* Returns the answer, or NULL if the client waits. */
static cJSON *take_request(struct control *control, struct client *client, struct bytes packet)
{
    struct error err = {0};
    struct control_request *request = xcalloc(1, sizeof(*request));
    cJSON *answer = NULL;

    if (packet.len > CONTROL_PACKET_MAX)
        answer = control_refuse("the request is longer than 64 KB");
    else if (control_parse(packet, request, &err) < 0)
        answer = control_refuse("%s", err.text);
    else if (request->wait && changes_something(request->verb) && !may_wait(control, request))
        answer = refuse_to_wait(control, request);
    else
        answer = control->answer(control->context, request);
    client->request = request;
    client->deadline_ms = -1;
    return answer;
}

/* Reads a request. Returns false if the client must be dropped. */
static bool read_request(struct control *control, struct client *client)
{
    static char packet[CONTROL_PACKET_MAX];
    ssize_t got = recv(client->fd, packet, sizeof(packet), MSG_TRUNC | MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0 || client->request != NULL) /* end of file, or a second request */
        return false;
    cJSON *answer = take_request(control, client, (struct bytes){packet, (size_t)got});
    if (answer != NULL)
        send_answer(client->fd, answer);
    return answer == NULL;
}

void control_check(struct control *control)
{
    for (size_t i = control != NULL ? control->clients_len : 0; i-- > 0;) {
        struct client *client = control->clients[i];
        cJSON *answer =
            client->request != NULL ? control->answer(control->context, client->request) : NULL;

        if (answer == NULL)
            continue;
        send_answer(client->fd, answer);
        drop(control, client);
    }
}

static void expire(struct control *control, int64_t now_ms)
{
    for (size_t i = control->clients_len; i-- > 0;) {
        struct client *client = control->clients[i];

        if (client->deadline_ms >= 0 && client->deadline_ms <= now_ms)
            drop(control, client);
    }
    if (control->resume_ms >= 0 && control->resume_ms <= now_ms) {
        control->resume_ms = -1;
        watch(control, EPOLL_CTL_ADD, control->listen_fd, EPOLLIN, NULL);
    }
}

void control_process(struct control *control, int64_t now_ms)
{
    struct epoll_event event;

    /* Each call takes one event, so that a dropped client has no further event waiting. */
    if (epoll_wait(control->epoll_fd, &event, 1, 0) == 1) {
        struct client *client = event.data.ptr;

        if (client == NULL)
            accept_client(control, now_ms);
        else if ((event.events & EPOLLIN) == 0 || !read_request(control, client))
            drop(control, client);
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

    for (size_t i = 0; i < control->clients_len; i++) {
        const struct client *client = control->clients[i];

        first = clock_earlier_ms(first, client->deadline_ms);
        if (client->request != NULL)
            first = clock_earlier_ms(first, client->request->deadline_ms);
    }
    return first;
}

int control_hand_over_client(const struct control *control, enum control_verb verb)
{
    for (size_t i = 0; i < control->clients_len; i++) {
        const struct client *client = control->clients[i];

        if (client->request != NULL && client->request->verb == verb)
            return fcntl(client->fd, F_DUPFD, STDERR_FILENO + 1);
    }
    return -1;
}

int control_hand_over(struct control *control)
{
    free(control->path);
    control->path = NULL;
    watch(control, EPOLL_CTL_DEL, control->listen_fd, 0, NULL);
    for (size_t i = control->clients_len; i > 0; i--)
        control_process(control, clock_monotonic_ms());
    return fcntl(control->listen_fd, F_DUPFD, STDERR_FILENO + 1);
}

void control_adopt(struct control *control, int fd, const struct control_request *request)
{
    struct client *client = add_client(control, fd, -1);

    if (client == NULL)
        return;
    client->request = xcalloc(1, sizeof(*request));
    *client->request = *request;
}

void control_refuse_handed(int fd, const char *text)
{
    if (fd < 0)
        return;
    send_answer(fd, control_refuse("%s", text));
    close(fd);
}

void control_retire(struct control *control)
{
    if (control == NULL || control->listen_fd < 0)
        return;
    if (control->path != NULL)
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
        drop(control, control->clients[0]);
    file_close(&control->epoll_fd);
    free(control->path);
    free(control);
}
