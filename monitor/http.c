#include "monitor/http.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/runtime/status.h"
#include "common/settings/settings_table.h"
#include "monitor/connections.h"
#include "monitor/failed_list.h"
#include "monitor/last_values.h"
#include "monitor/metrics.h"
#include "monitor/request.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_ENDING 64                  /* closing connections, besides CONNECTIONS_MAX */
#define REQUEST_SIZE_MAX   ((size_t)16 * 1024) /* for request line and headers */
#define TOKEN_SIZE_MAX     1024

/* The page connects to this host and to the hub, whose address is in the settings. */
#define CONTENT_POLICY                                                                             \
    "default-src 'self'; connect-src 'self' http: https:; style-src 'self' 'unsafe-inline'; "      \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct http {
    const struct settings *settings;
    const struct stats *stats;
    struct request_files *files;
    struct last_values *last_values;
    struct MHD_Daemon *daemon;
    struct connections connections;
    char *token; /* NULL: no token is needed */
    struct failed_list *failed_list;
};

struct reply {
    bool trusted; /* the client has the token, or none is needed */
    unsigned status;
    const char *content_type;
    struct buf body;
};

/* The state of a request, which the library keeps: NULL for a new one, HEADERS_READ, or a wait
 * for last values. */
struct waiting {
    struct MHD_Connection *connection;
    struct reply reply;
    bool is_answered;
};
static const struct waiting HEADERS_READ;

static void print_json(struct buf *out, cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);

    if (text == NULL)
        abort();
    buf_append_text(out, text);
    buf_append_char(out, '\n');
    cJSON_free(text);
    cJSON_Delete(json);
}

static void answer_health(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = readiness_limits_now(http->settings);

    reply->content_type = "text/plain; charset=utf-8";
    if (readiness_supervisor_is_alive(http->stats, &limits)) {
        buf_append_text(&reply->body, "ok\n");
        return;
    }
    reply->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    buf_append_text(&reply->body, "the supervisor does not answer\n");
}

static void answer_readiness(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = readiness_limits_now(http->settings);
    struct readiness readiness;

    readiness_judge(&readiness, http->settings, http->stats, &limits);
    reply->status = readiness.ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    print_json(&reply->body, status_readiness(&readiness, reply->trusted));
}

static void answer_status(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = readiness_limits_now(http->settings);

    print_json(&reply->body, status_document(http->settings, http->stats, &limits));
}

static void answer_metrics(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = readiness_limits_now(http->settings);

    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_write(&reply->body, http->settings, http->stats, &limits);
}

static int compare_texts(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Adds each type of event that a route publishes, once: an EventSource listens for types by name. */
static void add_types(cJSON *json, const struct settings *settings)
{
    cJSON *list = cJSON_AddArrayToObject(json, "types");
    const char **types = xcalloc(settings->routes_len + 1, sizeof(*types));
    size_t len = 0;

    for (size_t i = 0; i < settings->routes_len; i++)
        if (settings->routes[i].type[0] != '\0' && !settings->routes[i].drop)
            types[len++] = settings->routes[i].type;
    qsort(types, len, sizeof(*types), compare_texts);
    for (size_t i = 0; i < len; i++)
        if (i == 0 || strcmp(types[i - 1], types[i]) != 0)
            cJSON_AddItemToArray(list, cJSON_CreateString(types[i]));
    free(types);
}

static bool has_private_route(const struct settings *settings)
{
    for (size_t i = 0; i < settings->routes_len; i++)
        if (settings->routes[i].private_updates && !settings->routes[i].drop)
            return true;
    return false;
}

/* Answers the page's configuration: the hub's address, and what to subscribe to and listen for. */
static void answer_page_config(const struct http *http, struct reply *reply)
{
    const struct settings_mercure *mercure = &http->settings->mercure;
    cJSON *json = cJSON_CreateObject();
    const char *url = mercure->public_url[0] != '\0' ? mercure->public_url : mercure->url;

    cJSON_AddStringToObject(json, "version", MQTT_BRIDGE_VERSION);
    if (url[0] != '\0')
        cJSON_AddStringToObject(json, "hub", url);
    else
        cJSON_AddNullToObject(json, "hub");
    /* The page subscribes to every topic: a template would miss names with spaces or accents,
     * which are common in MQTT. The page takes only updates with mqtt-bridge's ids. */
    cJSON *topics = cJSON_AddArrayToObject(json, "topics");
    cJSON_AddItemToArray(topics, cJSON_CreateString("*"));
    cJSON_AddStringToObject(json, "data", setting_word(UPDATE_DATA_WORDS, mercure->data));
    add_types(json, http->settings);
    cJSON_AddBoolToObject(json, "private", mercure->private_updates);
    cJSON_AddBoolToObject(json, "private_routes", has_private_route(http->settings));
    cJSON_AddNumberToObject(json, "last_values", (double)http->settings->page.last_values);
    print_json(&reply->body, json);
}

/* Answers the failed messages. Without a list yet the status 202 tells the client to ask again. */
static void answer_failures(const struct http *http, struct reply *reply)
{
    if (!failed_list_write(http->failed_list, &reply->body, clock_monotonic_ms()))
        reply->status = MHD_HTTP_ACCEPTED;
}

static const struct route {
    const char *path;
    bool guarded;  /* needs the token */
    bool any_host; /* answers under any host name, since the answer reveals nothing */
    void (*answer)(const struct http *http, struct reply *reply); /* NULL: answers last values */
} ROUTES[] = {
    {"/healthz", false, true, answer_health},
    {"/readyz", false, false, answer_readiness},
    {"/status", true, false, answer_status},
    {"/metrics", true, false, answer_metrics},
    {"/config.json", true, false, answer_page_config},
    {"/failures", true, false, answer_failures},
    {"/latest", true, false, NULL},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < LENGTH_OF(ROUTES); i++)
        if (strcmp(ROUTES[i].path, path) == 0)
            return &ROUTES[i];
    return NULL;
}

static struct bytes header_of(struct MHD_Connection *connection, const char *name)
{
    return bytes_of(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name));
}

static const char *argument_of(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* Compares in constant time, so that the response time reveals nothing about the token. */
static bool has_token(const struct http *http, struct MHD_Connection *connection)
{
    static const char SCHEME[] = "Bearer ";
    const char *given =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    unsigned difference = 0;

    if (http->token == NULL)
        return true;
    if (given == NULL || strncasecmp(given, SCHEME, sizeof SCHEME - 1) != 0)
        return false;
    given += sizeof SCHEME - 1;
    size_t len = strlen(http->token);
    if (strlen(given) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)given[i] ^ (unsigned char)http->token[i];
    return difference == 0;
}

static enum MHD_Result queue_and_release(struct MHD_Connection *connection, unsigned status,
                                         struct MHD_Response *response)
{
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_reply(struct MHD_Connection *connection, struct reply *reply)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->body.len, reply->body.data, MHD_RESPMEM_MUST_FREE);

    if (response == NULL) {
        buf_free(&reply->body);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (reply->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (reply->status == MHD_HTTP_ACCEPTED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (reply->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    return queue_and_release(connection, reply->status, response);
}

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status,
                                 const char *text)
{
    struct reply reply = {.status = status, .content_type = "text/plain; charset=utf-8"};

    buf_append_text(&reply.body, text);
    return send_reply(connection, &reply);
}

static enum MHD_Result send_file(struct MHD_Connection *connection, const struct request_file *file)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(file->size, file->fd);

    if (response == NULL) {
        close(file->fd);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, file->content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
                            file->library ? "max-age=86400" : "no-cache");
    MHD_add_response_header(response, "Content-Security-Policy", CONTENT_POLICY);
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    return queue_and_release(connection, MHD_HTTP_OK, response);
}

static int socket_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

static bool is_reading(const char *method)
{
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static bool brings_body(struct MHD_Connection *connection)
{
    struct bytes length = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return header_of(connection, MHD_HTTP_HEADER_TRANSFER_ENCODING).len > 0 ||
           (length.len > 0 && !bytes_equal_text(length, "0"));
}

/* True if the Host header is allowed or missing. HTTP/1.0 clients may omit the header; browsers
 * always send it. */
static bool is_host_allowed(const struct http *http, struct MHD_Connection *connection)
{
    struct bytes host = header_of(connection, MHD_HTTP_HEADER_HOST);

    return host.data == NULL ||
           request_host_is_allowed(host, http->settings->http.hosts, http->settings->http.listen);
}

static enum MHD_Result refuse_host(struct MHD_Connection *connection)
{
    struct reply reply = {.status = MHD_HTTP_MISDIRECTED_REQUEST,
                          .content_type = "text/plain; charset=utf-8"};
    struct bytes name = request_host_name(header_of(connection, MHD_HTTP_HEADER_HOST));

    buf_printf(&reply.body,
               "this page may not be called by the name `%.*s`: [http] hosts (HTTP_HOSTS) must "
               "list it\n",
               BYTES_ARG(name));
    return send_reply(connection, &reply);
}

static void take_last_values(void *context, unsigned status, struct buf body)
{
    struct waiting *waiting = context;

    waiting->reply =
        (struct reply){.status = status, .content_type = "application/json", .body = body};
    waiting->is_answered = true;
    MHD_resume_connection(waiting->connection); /* the library calls `answer` again */
}

/* Suspends the connection until Redis has answered. */
static enum MHD_Result ask_last_values(const struct http *http, struct MHD_Connection *connection,
                                       struct waiting **under_way)
{
    struct waiting *waiting = xcalloc(1, sizeof *waiting);

    waiting->connection = connection;
    *under_way = waiting;
    MHD_suspend_connection(connection);
    last_values_ask(http->last_values, argument_of(connection, "filter"),
                    argument_of(connection, "cursor"), take_last_values, waiting);
    return MHD_YES;
}

static enum MHD_Result respond(const struct http *http, struct MHD_Connection *connection,
                               const char *path, const char *method, struct waiting **under_way)
{
    struct reply reply = {.status = MHD_HTTP_OK, .content_type = "application/json"};
    const struct route *route = find_route(path);
    struct request_file file;

    if (!is_reading(method))
        return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    if (brings_body(connection))
        return send_text(connection, MHD_HTTP_CONTENT_TOO_LARGE, "no body is read\n");
    if ((route == NULL || !route->any_host) && !is_host_allowed(http, connection))
        return refuse_host(connection);
    if (route == NULL && request_find_file(http->files, path, &file))
        return send_file(connection, &file);
    if (route == NULL)
        return send_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
    reply.trusted = has_token(http, connection);
    if (route->guarded && !reply.trusted)
        return send_text(connection, MHD_HTTP_UNAUTHORIZED,
                         "the token of [http] token_file is needed\n");
    if (route->answer == NULL)
        return ask_last_values(http, connection, under_way);
    route->answer(http, &reply);
    return send_reply(connection, &reply);
}

static enum MHD_Result send_last_values(struct MHD_Connection *connection, struct waiting *waiting)
{
    struct reply reply = waiting->reply;

    waiting->reply.body = (struct buf){0};
    return send_reply(connection, &reply);
}

static void forget_waiting(struct waiting *waiting)
{
    if (waiting == NULL || waiting == &HEADERS_READ)
        return;
    buf_free(&waiting->reply.body);
    free(waiting);
}

/* The library calls `answer` for a request's headers, with *under_way NULL. If no response is
 * queued then, the library calls again at the request's end. After a wait for last values there
 * is a third call. A response queued in the first call ends the connection, and the request's
 * body stays unread. */
static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **under_way)
{
    struct http *http = context;
    struct waiting *waiting = *under_way;

    (void)version;
    (void)upload;
    (void)upload_len;
    if (waiting == NULL && !brings_body(connection)) {
        *under_way = (void *)(uintptr_t)&HEADERS_READ;
        return MHD_YES;
    }
    if (waiting != NULL && waiting->is_answered)
        return send_last_values(connection, waiting);
    connections_answer(&http->connections, socket_of(connection), true, clock_monotonic_ms());
    return respond(http, connection, path, method, (struct waiting **)under_way);
}

static void notice_answered(void *context, struct MHD_Connection *connection, void **under_way,
                            enum MHD_RequestTerminationCode code)
{
    struct http *http = context;

    (void)code;
    forget_waiting(*under_way);
    *under_way = NULL;
    connections_answer(&http->connections, socket_of(connection), false, clock_monotonic_ms());
}

/* Shuts the socket down. The library notices the end and closes the connection. */
static void disconnect(int fd)
{
    shutdown(fd, SHUT_RDWR);
}

static void notice_connection(void *context, struct MHD_Connection *connection,
                              void **connection_context, enum MHD_ConnectionNotificationCode code)
{
    struct http *http = context;
    int fd = socket_of(connection);

    (void)connection_context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        connections_remove(&http->connections, fd);
        return;
    }
    const struct sockaddr *address =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
    int ends = connections_add(&http->connections, fd, address, clock_monotonic_ms());
    if (ends >= 0)
        disconnect(ends);
}

static int read_token(char **token, const char *path, struct error *err)
{
    struct buf text = {0};
    struct error why;
    int result = 0;

    if (file_read(path, TOKEN_SIZE_MAX, &text, &why) < 0)
        result = error_set(err, ERR_USAGE, "[http] token_file: %s", why.text);
    struct bytes trimmed = bytes_trim(buf_bytes(&text));
    if (result == 0 && (trimmed.len == 0 || trimmed.len >= TOKEN_SIZE_MAX))
        result = error_set(err, ERR_USAGE,
                           "[http] token_file: %s: must hold a token of 1 to %d characters", path,
                           TOKEN_SIZE_MAX - 1);
    if (result == 0)
        *token = xstrndup(trimmed.data, trimmed.len);
    buf_free(&text);
    return result;
}

/* Leaves paths encoded: no file or route has a name that must be encoded. */
static size_t keep_encoded(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static int start_daemon(struct http *http, struct error *err)
{
    char *bound;
    int fd;

    if (connections_listen(&fd, http->settings->http.listen, &bound, err) < 0)
        return -(int)err->code;
    http->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, http,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        CONNECTIONS_MAX + CONNECTIONS_ENDING, MHD_OPTION_CONNECTION_MEMORY_LIMIT, REQUEST_SIZE_MAX,
        MHD_OPTION_NOTIFY_CONNECTION, notice_connection, http, MHD_OPTION_NOTIFY_COMPLETED,
        notice_answered, http, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL, MHD_OPTION_END);
    const char *folder = request_files_folder(http->files);
    int result = 0;

    if (http->daemon == NULL) /* the library has closed fd */
        result =
            error_set(err, ERR_SYSTEM, "[http] listen: %s: the HTTP server does not start", bound);
    else
        log_info(
            LOG_WITH(log_text("url", bound), log_text("pages", folder != NULL ? folder : "none")),
            "Listening on http://%s/", bound);
    free(bound);
    return result;
}

int http_start(struct http **http, const struct settings *settings, const struct stats *stats,
               struct error *err)
{
    struct http *made = xcalloc(1, sizeof *made);
    int result = 0;

    made->settings = settings;
    made->stats = stats;
    made->files = request_files_new();
    made->failed_list = failed_list_new(&settings->failure);
    if (settings->http.token_file[0] != '\0')
        result = read_token(&made->token, settings->http.token_file, err);
    if (result == 0)
        result = last_values_new(&made->last_values, settings, err);
    if (result == 0)
        result = start_daemon(made, err);
    if (result < 0) {
        http_stop(made);
        return result;
    }
    if (request_files_folder(made->files) == NULL)
        log_warning(
            LOG_PLAIN,
            "No page is served: its files were not found; set MQTT_BRIDGE_WEB to their folder");
    *http = made;
    return 0;
}

void http_poll(const struct http *http, struct pollfd fds[HTTP_FDS])
{
    fds[0] = fds[1] = (struct pollfd){.fd = -1};
    if (http == NULL)
        return;
    fds[0].fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    fds[0].events = POLLIN;
    fds[1] = last_values_poll(http->last_values);
}

int64_t http_deadline(const struct http *http, int64_t now_ms)
{
    MHD_UNSIGNED_LONG_LONG library_ms;

    if (http == NULL)
        return -1;
    int64_t deadline = clock_earlier_ms(connections_deadline(&http->connections),
                                        last_values_deadline(http->last_values));
    if (MHD_get_timeout(http->daemon, &library_ms) == MHD_YES)
        deadline = clock_earlier_ms(deadline, now_ms + (int64_t)library_ms);
    return deadline;
}

void http_process(struct http *http, const struct pollfd fds[HTTP_FDS])
{
    int overdue;

    if (http == NULL)
        return;
    /* Before MHD_run, which serves the connections that this call resumes. */
    last_values_process(http->last_values, fds[1].revents);
    MHD_run(http->daemon);
    while ((overdue = connections_take_overdue(&http->connections, clock_monotonic_ms())) >= 0)
        disconnect(overdue);
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    last_values_free(http->last_values); /* no connection may be suspended when the daemon stops */
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    request_files_free(http->files);
    failed_list_free(http->failed_list);
    free(http->token);
    free(http);
}
