#include "monitor/http.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/readiness.h"
#include "monitor/listen.h"
#include "monitor/metrics.h"
#include "monitor/pages.h"
#include "monitor/status.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX  256
#define IDLE_S           30
#define REQUEST_SIZE_MAX ((size_t)16 * 1024) /* memory of a connection: request line and headers */
#define TOKEN_SIZE_MAX   1024

/* The page talks to this host and to the hub, whose address only the settings know. */
#define CONTENT_POLICY                                                                             \
    "default-src 'self'; connect-src 'self' http: https:; style-src 'self' 'unsafe-inline'; "      \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

struct http {
    const struct settings *settings;
    const struct stats *stats;
    struct pages *pages;
    struct MHD_Daemon *daemon;
    char *token; /* NULL: none needed */
};

struct reply {
    unsigned status;
    const char *content_type;
    struct buf body;
};

static struct readiness_limits limits_now(const struct http *http)
{
    return (struct readiness_limits){.now_ms = clock_monotonic_ms(),
                                     .beat_ms = http->settings->supervisor.hang_timeout_ms};
}

static struct readiness judge(const struct http *http, const struct readiness_limits *limits)
{
    struct readiness readiness;

    readiness_judge(&readiness, http->settings, http->stats, limits);
    return readiness;
}

static void answer_health(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = limits_now(http);

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
    struct readiness_limits limits = limits_now(http);
    struct readiness readiness = judge(http, &limits);

    reply->status = readiness.ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    status_write_readiness(&reply->body, &readiness);
}

static void answer_status(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = limits_now(http);
    struct readiness readiness = judge(http, &limits);

    status_write(&reply->body, http->settings, http->stats, &readiness, &limits);
}

static void answer_metrics(const struct http *http, struct reply *reply)
{
    struct readiness_limits limits = limits_now(http);

    reply->content_type = METRICS_CONTENT_TYPE;
    metrics_write(&reply->body, http->settings, http->stats, &limits);
}

static void answer_page_config(const struct http *http, struct reply *reply)
{
    status_write_page_config(&reply->body, http->settings);
}

static const struct route {
    const char *path;
    bool guarded; /* by the token */
    void (*answer)(const struct http *http, struct reply *reply);
} ROUTES[] = {
    {"/healthz", false, answer_health},
    {"/readyz", false, answer_readiness},
    {"/status", true, answer_status},
    {"/metrics", true, answer_metrics},
    {"/config.json", false, answer_page_config},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++) {
        if (strcmp(ROUTES[i].path, path) == 0)
            return &ROUTES[i];
    }
    return NULL;
}

/* Takes as long for a wrong token as for the right one. */
static bool is_allowed(const struct http *http, struct MHD_Connection *connection)
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

/* Takes the reply's body. */
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

static enum MHD_Result send_page(struct MHD_Connection *connection, const struct page *page)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(page->size, page->fd);

    if (response == NULL) {
        close(page->fd);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page->content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
                            page->library ? "max-age=86400" : "no-cache");
    MHD_add_response_header(response, "Content-Security-Policy", CONTENT_POLICY);
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    return queue_and_release(connection, MHD_HTTP_OK, response);
}

/* Called once for the headers and again for the end of the request: what is under way says which. */
static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_len, void **under_way)
{
    static const char HEADERS_READ;
    const struct http *http = context;
    struct reply reply = {.status = MHD_HTTP_OK, .content_type = "application/json"};
    struct page page;

    (void)version;
    (void)upload;
    if (*under_way == NULL) {
        *under_way = (void *)(uintptr_t)&HEADERS_READ;
        return MHD_YES;
    }
    if (*upload_len > 0) { /* a body is read and dropped */
        *upload_len = 0;
        return MHD_YES;
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    const struct route *route = find_route(path);
    if (route == NULL && pages_find(http->pages, path, &page))
        return send_page(connection, &page);
    if (route == NULL)
        return send_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
    if (route->guarded && !is_allowed(http, connection))
        return send_text(connection, MHD_HTTP_UNAUTHORIZED,
                         "the token of [http] token_file is needed\n");
    route->answer(http, &reply);
    return send_reply(connection, &reply);
}

static int read_token(char **token, const char *path, struct error *err)
{
    char text[TOKEN_SIZE_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_set(err, ERR_USAGE, "[http] token_file: %s: %s", path, strerror(errno));
    ssize_t len = read(fd, text, sizeof text);
    close(fd);
    if (len < 0)
        return error_set(err, ERR_USAGE, "[http] token_file: %s: %s", path, strerror(errno));
    struct bytes trimmed = bytes_trim((struct bytes){text, (size_t)len});
    if (trimmed.len == 0 || (size_t)len == sizeof text)
        return error_set(err, ERR_USAGE,
                         "[http] token_file: %s: must hold a token of 1 to %d characters", path,
                         TOKEN_SIZE_MAX - 1);
    *token = xstrndup(trimmed.data, trimmed.len);
    return 0;
}

static int start_daemon(struct http *http, struct error *err)
{
    struct listen_address address;
    char bound[LISTEN_BOUND_SIZE];
    int fd;

    if (listen_parse(&address, http->settings->http.listen, err) < 0)
        return error_wrap(err, "[http] listen");
    if (listen_open(&fd, &address, bound, err) < 0)
        return -(int)err->code;
    http->daemon =
        MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC, 0, NULL, NULL, answer, http,
                         MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                         MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         REQUEST_SIZE_MAX, MHD_OPTION_END);
    if (http->daemon == NULL) /* it has closed fd */
        return error_set(err, ERR_SYSTEM, "[http] listen: %s: the HTTP server does not start",
                         bound);
    const char *folder = pages_folder(http->pages);
    log_info(LOG_WITH(log_text("url", bound), log_text("pages", folder != NULL ? folder : "none")),
             "Listening on http://%s/", bound);
    return 0;
}

int http_start(struct http **http, const struct settings *settings, const struct stats *stats,
               struct error *err)
{
    struct http *made = xcalloc(1, sizeof *made);
    int result = 0;

    made->settings = settings;
    made->stats = stats;
    made->pages = pages_new();
    if (settings->http.token_file[0] != '\0')
        result = read_token(&made->token, settings->http.token_file, err);
    if (result == 0)
        result = start_daemon(made, err);
    if (result < 0) {
        http_stop(made);
        return result;
    }
    if (pages_folder(made->pages) == NULL)
        log_warning(LOG_PLAIN, "The page's files were not found; MQTT_BRIDGE_WEB can name their "
                               "folder");
    *http = made;
    return 0;
}

void http_stop(struct http *http)
{
    if (http == NULL)
        return;
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    pages_free(http->pages);
    free(http->token);
    free(http);
}
