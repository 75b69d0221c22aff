#include "common/client/hub.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/hub_address.h"
#include "common/client/hub_excerpt.h"
#include "common/client/hub_sockets.h"
#include "common/client/jwt.h"

#include <stdlib.h>
#include <string.h>

#define BODY_LENGTH_MAX   (64 * 1024) /* an answer that is longer is no hub's */
#define ANSWER_BUFFER     1024L       /* made for each request; answers are shorter */
#define SPARE_SOCKETS     2           /* libcurl closes a kept one too early without */
#define CONNECTIONS_MOST  1024
#define RETRY_AFTER_MAX_S 86400 /* more is a mistake of whoever says so */

struct connection {
    struct hub *hub;
    size_t index;
    CURL *easy;
    struct curl_slist *headers; /* of token_turn */
    uint64_t token_turn;
    struct hub_address_given addresses;
    struct buf form;
    struct buf id;
    bool busy;
    bool stuck; /* never sent: there is no token */
    bool renewed;
    int64_t sent_us;
    size_t body_len;
    bool body_is_id; /* so far */
    struct hub_excerpt excerpt;
    char why[CURL_ERROR_SIZE];
};

struct hub {
    CURLM *multi;
    struct hub_sockets sockets;
    struct hub_address address;
    struct jwt *jwt;
    CURLU *url;          /* read once, not for each request */
    char *place;         /* it without its query, for messages */
    char *token;         /* of token_turn */
    uint64_t token_turn; /* counts the tokens that there were */
    struct connection *connections;
    size_t connections_len;
    size_t busy;
    size_t stuck;
    hub_answered *answered;
    void *context;
};

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct connection *connection = context;
    struct bytes chunk = {data, size * count};
    struct bytes expected =
        bytes_slice(buf_bytes(&connection->id), connection->body_len, chunk.len);

    connection->body_is_id = connection->body_is_id && bytes_equal(chunk, expected);
    connection->body_len += chunk.len;
    if (!connection->body_is_id)
        hub_excerpt_add(&connection->excerpt, chunk);
    return connection->body_len > BODY_LENGTH_MAX ? 0 : chunk.len;
}

/* Is this an address that a token may be sent to? *place is it without what is behind a `?`. */
static int read_url(CURLU *parsed, const char *url, char **place, struct error *err)
{
    char *part = NULL;
    int result = 0;

    if (url[0] == '\0') {
        result = error_set(err, ERR_USAGE,
                           "[mercure] url (MERCURE_URL) is not set: it is the hub's "
                           "address, like http://mercure/.well-known/mercure");
    } else if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK ||
               (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)) {
        result = error_set(err, ERR_USAGE,
                           "[mercure] url (MERCURE_URL) is no http:// or https:// "
                           "address, like http://mercure/.well-known/mercure");
    } else if (curl_url_get(parsed, CURLUPART_USER, &part, 0) == CURLUE_OK) {
        result = error_set(err, ERR_USAGE,
                           "[mercure] url (MERCURE_URL) holds a user, which hubs do not "
                           "know: the token says who publishes");
    } else {
        *place = xstrndup(url, strcspn(url, "?#"));
    }
    curl_free(part);
    return result;
}

static void prepare_easy(struct connection *connection, const struct settings_mercure *settings)
{
    CURL *easy = connection->easy;

    curl_easy_setopt(easy, CURLOPT_CURLU, connection->hub->url);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, ANSWER_BUFFER);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, connection);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A look-up that was given up is not waited for. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)settings->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)settings->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, connection);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, connection->why);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "mqtt-bridge/" MQTT_BRIDGE_VERSION);
    if (settings->ca_file[0] != '\0')
        curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca_file);
}

static void open_connections(struct hub *hub, const struct settings_mercure *settings)
{
    size_t count = settings->connections > 0 ? (size_t)settings->connections : 1;

    if (count > CONNECTIONS_MOST)
        count = CONNECTIONS_MOST;
    hub->connections = xcalloc(count, sizeof(*hub->connections));
    hub->connections_len = count;
    hub->multi = curl_multi_init();
    if (hub->multi == NULL)
        abort();
    hub_sockets_init(&hub->sockets, hub->multi);
    curl_multi_setopt(hub->multi, CURLMOPT_MAXCONNECTS, (long)(count + SPARE_SOCKETS));
    curl_multi_setopt(hub->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    for (size_t i = 0; i < count; i++) {
        struct connection *connection = &hub->connections[i];

        connection->hub = hub;
        connection->index = i;
        connection->easy = curl_easy_init();
        if (connection->easy == NULL)
            abort();
        prepare_easy(connection, settings);
    }
}

int hub_new(struct hub **hub, const struct settings_mercure *settings, hub_answered *answered,
            void *context, struct error *err)
{
    struct hub *made = xcalloc(1, sizeof(*made));
    int result;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
    made->answered = answered;
    made->context = context;
    made->token = xstrdup("");
    made->url = curl_url();
    if (made->url == NULL)
        abort();
    result = read_url(made->url, settings->url, &made->place, err);
    if (result == 0)
        result = jwt_new(&made->jwt, settings, err);
    if (result < 0) {
        hub_free(made);
        return result;
    }
    hub_address_init(&made->address, made->url);
    open_connections(made, settings);
    *hub = made;
    return 0;
}

void hub_free(struct hub *hub)
{
    if (hub == NULL)
        return;
    for (size_t i = 0; i < hub->connections_len; i++) {
        struct connection *connection = &hub->connections[i];

        curl_multi_remove_handle(hub->multi, connection->easy);
        curl_easy_cleanup(connection->easy);
        curl_slist_free_all(connection->headers);
        curl_slist_free_all(connection->addresses.list);
        buf_free(&connection->form);
        buf_free(&connection->id);
    }
    if (hub->multi != NULL)
        curl_multi_cleanup(hub->multi);
    hub_sockets_free(&hub->sockets);
    hub_address_free(&hub->address);
    free(hub->connections);
    curl_url_cleanup(hub->url);
    jwt_free(hub->jwt);
    free(hub->place);
    free(hub->token);
    free(hub);
    curl_global_cleanup();
}

size_t hub_connections(const struct hub *hub)
{
    return hub->connections_len;
}

bool hub_is_idle(const struct hub *hub, size_t connection)
{
    return !hub->connections[connection].busy;
}

struct buf *hub_form(struct hub *hub, size_t connection)
{
    buf_clear(&hub->connections[connection].form);
    return &hub->connections[connection].form;
}

size_t hub_busy(const struct hub *hub)
{
    return hub->busy;
}

/* The token of now; a new turn begins when it is another one. */
static int update_token(struct hub *hub, struct error *err)
{
    const char *token = jwt_token(hub->jwt, clock_wall_us() / 1000000, err);

    if (token == NULL)
        return -ERR_SYSTEM;
    if (strcmp(token, hub->token) != 0) {
        free(hub->token);
        hub->token = xstrdup(token);
        hub->token_turn++;
    }
    return 0;
}

static void set_headers(struct connection *connection)
{
    struct hub *hub = connection->hub;

    if (connection->headers != NULL && connection->token_turn == hub->token_turn)
        return;
    curl_slist_free_all(connection->headers);
    char *line = xasprintf("Authorization: Bearer %s", hub->token);
    connection->headers = curl_slist_append(NULL, line);
    /* "Expect: 100-continue" would cost a round trip for every large update. */
    curl_slist_append(connection->headers, "Expect:");
    free(line);
    connection->token_turn = hub->token_turn;
    curl_easy_setopt(connection->easy, CURLOPT_HTTPHEADER, connection->headers);
}

static void start(struct connection *connection)
{
    struct hub *hub = connection->hub;
    struct error err = {0};

    connection->body_len = 0;
    connection->body_is_id = true;
    connection->excerpt.len = 0;
    connection->why[0] = '\0';
    if (update_token(hub, &err) < 0) {
        snprintf(connection->why, sizeof(connection->why), "%s", err.text);
        connection->stuck = true;
        hub->stuck++;
        return;
    }
    set_headers(connection);
    hub_address_give(&hub->address, connection->easy, &connection->addresses);
    curl_easy_setopt(connection->easy, CURLOPT_POSTFIELDS,
                     connection->form.len > 0 ? connection->form.data : "");
    curl_easy_setopt(connection->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)connection->form.len);
    if (curl_multi_add_handle(hub->multi, connection->easy) != CURLM_OK)
        abort();
}

void hub_send(struct hub *hub, size_t connection_index, struct bytes id)
{
    struct connection *connection = &hub->connections[connection_index];

    if (connection->busy)
        abort();
    buf_clear(&connection->id);
    buf_append(&connection->id, id);
    connection->busy = true;
    connection->renewed = false;
    connection->sent_us = clock_monotonic_us();
    hub->busy++;
    start(connection);
}

/* Once for each request: was only the token the fault? True if it is on its way with another one. */
static bool send_again(struct connection *connection)
{
    struct hub *hub = connection->hub;

    if (connection->renewed)
        return false;
    connection->renewed = true;
    /* Another connection's 401 may have renewed it already. */
    if (connection->token_turn == hub->token_turn) {
        jwt_renew(hub->jwt);
        if (update_token(hub, NULL) < 0 || connection->token_turn == hub->token_turn)
            return false;
    }
    start(connection);
    return true;
}

/* libcurl knows both forms of it, seconds and a date. */
static int64_t retry_after_ms(const struct connection *connection)
{
    curl_off_t seconds = 0;

    curl_easy_getinfo(connection->easy, CURLINFO_RETRY_AFTER, &seconds);
    return seconds > 0 && seconds < RETRY_AFTER_MAX_S ? (int64_t)seconds * 1000 : 0;
}

static void describe(const struct connection *connection, struct hub_result *result)
{
    const struct hub *hub = connection->hub;

    result->text[0] = '\0';
    if (result->answer.outcome == HUB_DONE)
        return;
    if (result->status == 0) {
        snprintf(result->text, sizeof(result->text), "%.80s: %s", hub->place,
                 connection->why[0] != '\0' ? connection->why : result->answer.meaning);
        return;
    }
    snprintf(result->text, sizeof(result->text), "%.80s: %s (HTTP %ld)", hub->place,
             result->answer.meaning, result->status);
    hub_excerpt_append(&connection->excerpt, hub->token, result->text, sizeof(result->text));
}

static void finish(struct connection *connection, CURLcode code)
{
    struct hub *hub = connection->hub;
    struct hub_result result = {0};
    bool too_long = connection->body_len > BODY_LENGTH_MAX;

    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && too_long))
        curl_easy_getinfo(connection->easy, CURLINFO_RESPONSE_CODE, &result.status);
    else if (connection->why[0] == '\0')
        snprintf(connection->why, sizeof(connection->why), "%s", curl_easy_strerror(code));
    if (result.status == 0)
        hub_address_failed(&hub->address);
    bool id_matches = connection->body_is_id && connection->body_len == connection->id.len;
    result.answer = hub_answer_read(result.status, id_matches);
    if (result.answer.mint_again && send_again(connection))
        return;
    if (result.answer.outcome == HUB_WAIT && result.status != 0)
        result.retry_after_ms = retry_after_ms(connection);
    result.took_us = clock_monotonic_us() - connection->sent_us;
    describe(connection, &result);
    if (connection->form.capacity > HUB_FORM_KEPT_MAX)
        buf_free(&connection->form);
    connection->busy = false;
    hub->busy--;
    hub->answered(hub->context, connection->index, &result);
}

static void finish_stuck(struct hub *hub)
{
    size_t stuck = hub->stuck;

    for (size_t i = 0; i < hub->connections_len && stuck > 0; i++) {
        if (!hub->connections[i].stuck)
            continue;
        hub->connections[i].stuck = false;
        hub->stuck--;
        stuck--;
        finish(&hub->connections[i], CURLE_FAILED_INIT);
    }
}

static void finish_answered(struct hub *hub)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(hub->multi, &left)) != NULL) {
        struct connection *connection;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&connection);
        curl_multi_remove_handle(hub->multi, connection->easy);
        finish(connection, code);
    }
}

void hub_poll(struct hub *hub, struct curl_waitfd *extra, unsigned extra_len, int timeout_ms)
{
    hub_sockets_wait(&hub->sockets, extra, extra_len, hub->stuck > 0 ? 0 : timeout_ms);
}

void hub_process(struct hub *hub)
{
    finish_stuck(hub);
    /* One after the other, so that a connection which has its answer gets its next request at once and
     * not when all the others are read: the hub never waits for us with all of them. */
    while (hub_sockets_step(&hub->sockets))
        finish_answered(hub);
    hub_sockets_catch_up(&hub->sockets);
    finish_answered(hub);
}

static void keep_result(void *context, size_t connection, const struct hub_result *result)
{
    (void)connection;
    *(struct hub_result *)context = *result;
}

int hub_publish_once(const struct settings_mercure *settings, struct bytes form, struct bytes id,
                     int64_t timeout_ms, struct hub_result *result, struct error *err)
{
    struct settings_mercure once = *settings;
    struct hub *hub = NULL;
    int status;

    once.connections = 1;
    once.timeout_ms = timeout_ms;
    status = hub_new(&hub, &once, keep_result, result, err);
    if (status < 0)
        return status;
    buf_append(hub_form(hub, 0), form);
    hub_send(hub, 0, id);
    while (hub_busy(hub) > 0) {
        hub_process(hub);
        if (hub_busy(hub) > 0)
            hub_poll(hub, NULL, 0, 1000);
    }
    hub_free(hub);
    switch (result->answer.outcome) {
    case HUB_DONE:
        return 0;
    case HUB_WAIT:
        if (result->status == 0 || result->status == 429 || result->status >= 500)
            return error_set(err, ERR_UNREACHABLE, "%s", result->text);
        return error_set(err, ERR_REFUSED, "%s", result->text);
    case HUB_RETRY:
    case HUB_REJECT:
        return error_set(err, ERR_REFUSED, "%s", result->text);
    }
    return 0;
}
