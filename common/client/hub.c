#include "common/client/hub.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/jwt.h"
#include "common/client/resolve.h"
#include "common/wire/update.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define BODY_LENGTH_MAX   (64 * 1024) /* a hub's answer is never longer */
#define ANSWER_BUFFER     1024L       /* allocated for each request; a hub's answers are shorter */
#define SPARE_SOCKETS     2           /* without these libcurl closes a kept connection too early */
#define FORM_KEPT_MAX     (64 * 1024) /* a larger form's memory is freed with the answer */
#define RETRY_AFTER_MAX_S 86400       /* a longer Retry-After is taken for a mistake */
/* libcurl forgets given addresses after 60 s. With traffic they are renewed sooner. */
#define RENEW_MS 30000

/* The hub's addresses for libcurl. libcurl's own look-up ends with each attempt, so that a slow
 * look-up would never succeed. Here a look-up continues beside the attempts (resolve.h), and
 * later attempts get the addresses. Without addresses, or with old ones, libcurl looks up
 * itself. */
struct hub_address {
    struct resolve *resolve; /* NULL: the host is an address itself */
    char *host;
    char *port;
    char *entry;      /* for CURLOPT_RESOLVE, from the last answer with addresses; or NULL */
    uint64_t turn;    /* counts answers with addresses */
    int64_t asked_ms; /* -1: never */
};

/* The addresses that one handle was given. They are freed after the handle's curl_easy_cleanup. */
struct hub_address_given {
    struct curl_slist *list;
    uint64_t turn;
};

/* Drives a CURLM by its sockets: waits on libcurl's sockets and the caller's, and tells libcurl
 * which are ready. curl_multi_perform would check all transfers at each call, with a system call for
 * each transfer. */
struct hub_sockets {
    CURLM *multi;
    struct pollfd *fds; /* libcurl's; while waiting, with the caller's behind them */
    size_t len;
    size_t capacity;
    size_t unseen;       /* sockets not yet handled since the last wait */
    int64_t deadline_ms; /* libcurl's deadline; -1: none */
};

struct slot {
    struct hub *hub;
    size_t number;
    struct slot *next_idle;
    void *owner;
    int64_t timeout_ms;
    CURL *easy;
    struct curl_slist *headers; /* belongs to token_version */
    uint64_t token_version;
    struct hub_address_given addresses;
    struct buf form;
    struct buf id;
    bool busy;
    bool stuck; /* not sent for lack of a token */
    bool renewed;
    int64_t sent_us;
    size_t body_len;
    bool body_is_id; /* the body so far is the beginning of the id */
    struct hub_answer_excerpt excerpt;
    char why[CURL_ERROR_SIZE];
};

struct hub {
    CURLM *multi;
    struct hub_sockets sockets;
    struct hub_address address;
    struct jwt *jwt;
    CURLU *url;             /* parsed once, not for each request */
    char *shown_url;        /* the URL without its query, for logs */
    char *token;            /* belongs to token_version */
    uint64_t token_version; /* raised with each new token */
    const struct settings_mercure *settings;
    struct slot **slots;
    size_t slots_len;
    struct slot *idle; /* the slot used last comes first */
    size_t busy;
    size_t stuck;
    hub_answered *answered;
    void *context;
};

static void hub_address_init(struct hub_address *address, CURLU *url)
{
    char *host = NULL;

    *address = (struct hub_address){.asked_ms = -1};
    if (curl_url_get(url, CURLUPART_HOST, &host, CURLU_PUNYCODE) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_PORT, &address->port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
        host[0] == '[' || resolve_is_numeric(host)) {
        curl_free(host);
        return;
    }
    address->host = host;
    address->resolve = resolve_new(host);
}

static void hub_address_free(struct hub_address *address)
{
    resolve_free(address->resolve);
    curl_free(address->host);
    curl_free(address->port);
    free(address->entry);
    *address = (struct hub_address){.asked_ms = -1};
}

/* Returns "+host:port:address,[address]"; the plus lets the entry expire like libcurl's own
 * look-ups. Returns NULL without a usable address: libcurl takes none with an %interface. */
static char *make_entry(const struct hub_address *address, const struct resolve_answer *answer)
{
    struct buf list = {0};
    char *entry = NULL;

    for (size_t i = 0; i < answer->len; i++) {
        bool with_colon = strchr(answer->address[i], ':') != NULL;

        if (strchr(answer->address[i], '%') != NULL)
            continue;
        buf_append(&list, bytes_of(list.len > 0 ? "," : ""));
        buf_append(&list, bytes_of(with_colon ? "[" : ""));
        buf_append(&list, bytes_of(answer->address[i]));
        buf_append(&list, bytes_of(with_colon ? "]" : ""));
    }
    if (list.len > 0)
        entry = xasprintf("+%s:%s:%.*s", address->host, address->port, BYTES_ARG(buf_bytes(&list)));
    buf_free(&list);
    return entry;
}

static void take_addresses(struct hub_address *address)
{
    struct resolve_answer answer;

    if (!resolve_take(address->resolve, &answer))
        return;
    char *entry = make_entry(address, &answer);
    if (entry == NULL)
        return;
    free(address->entry);
    address->entry = entry;
    address->turn++;
}

static void ask_for_addresses(struct hub_address *address)
{
    take_addresses(address); /* a late answer is used too */
    resolve_ask(address->resolve);
    address->asked_ms = clock_monotonic_ms();
}

/* Gives the handle the newest addresses before a request begins, and looks up again when due. */
static void hub_address_give(struct hub_address *address, CURL *easy,
                             struct hub_address_given *given)
{
    if (address->resolve == NULL)
        return;
    take_addresses(address);
    if (address->asked_ms < 0 || clock_monotonic_ms() - address->asked_ms >= RENEW_MS)
        ask_for_addresses(address);
    if (given->turn == address->turn)
        return;
    curl_slist_free_all(given->list);
    given->list = curl_slist_append(NULL, address->entry);
    given->turn = address->turn;
    curl_easy_setopt(easy, CURLOPT_RESOLVE, given->list);
}

/* Looks up again after a request without an answer: the hub may have another address now. */
static void hub_address_failed(struct hub_address *address)
{
    if (address->resolve != NULL)
        ask_for_addresses(address);
}

static struct pollfd *find_socket(struct hub_sockets *sockets, curl_socket_t fd)
{
    for (size_t i = 0; i < sockets->len; i++)
        if (sockets->fds[i].fd == fd)
            return &sockets->fds[i];
    return NULL;
}

static void make_room(struct hub_sockets *sockets, size_t wanted)
{
    if (wanted <= sockets->capacity)
        return;
    sockets->capacity = wanted * 2;
    sockets->fds = xrealloc(sockets->fds, sockets->capacity * sizeof(*sockets->fds));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *of_socket)
{
    struct hub_sockets *sockets = context;
    struct pollfd *found = find_socket(sockets, fd);

    (void)easy;
    (void)of_socket;
    if (what == CURL_POLL_REMOVE) {
        if (found != NULL)
            *found = sockets->fds[--sockets->len];
        return 0;
    }
    if (found == NULL) {
        make_room(sockets, sockets->len + 1);
        found = &sockets->fds[sockets->len++];
        *found = (struct pollfd){.fd = fd};
    }
    found->events = (short)(((what & CURL_POLL_IN) != 0 ? POLLIN : 0) |
                            ((what & CURL_POLL_OUT) != 0 ? POLLOUT : 0));
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct hub_sockets *sockets = context;

    (void)multi;
    sockets->deadline_ms = timeout_ms < 0 ? -1 : clock_monotonic_ms() + timeout_ms;
    return 0;
}

/* Sets the multi handle's socket and timer callbacks. */
static void hub_sockets_init(struct hub_sockets *sockets, CURLM *multi)
{
    *sockets = (struct hub_sockets){.multi = multi, .deadline_ms = -1};
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, sockets);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, sockets);
}

static void hub_sockets_free(struct hub_sockets *sockets)
{
    free(sockets->fds);
    *sockets = (struct hub_sockets){.deadline_ms = -1};
}

static int shorter(const struct hub_sockets *sockets, int timeout_ms)
{
    if (sockets->deadline_ms < 0 || timeout_ms == 0)
        return timeout_ms;
    int own_ms = clock_poll_timeout(sockets->deadline_ms, clock_monotonic_ms());
    return timeout_ms < 0 || own_ms < timeout_ms ? own_ms : timeout_ms;
}

/* Waits until a socket is ready, timeout_ms is over (-1: never) or libcurl's timer is due. Fills
 * the revents of extra. */
static void hub_sockets_wait(struct hub_sockets *sockets, struct pollfd *extra, unsigned extra_len,
                             int timeout_ms)
{
    struct pollfd *others;

    make_room(sockets, sockets->len + extra_len);
    others = sockets->fds + sockets->len;
    for (unsigned i = 0; i < extra_len; i++)
        others[i] = extra[i];
    int ready = poll(sockets->fds, sockets->len + extra_len, shorter(sockets, timeout_ms));
    for (unsigned i = 0; i < extra_len; i++)
        extra[i].revents = ready > 0 ? others[i].revents : 0;
    sockets->unseen = ready > 0 ? sockets->len : 0;
}

/* Takes an error or hang-up for the event that the socket waits for: the transfer then reads or
 * writes, and finds the cause. */
static int action_of(const struct pollfd *fd)
{
    bool failed = (fd->revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    bool in = (fd->revents & POLLIN) != 0 || (failed && (fd->events & POLLIN) != 0);
    bool out = (fd->revents & POLLOUT) != 0 || (failed && (fd->events & POLLOUT) != 0);

    return (in ? CURL_CSELECT_IN : 0) | (out ? CURL_CSELECT_OUT : 0);
}

/* Lets libcurl handle one ready socket. Returns false if no socket is left. */
static bool hub_sockets_step(struct hub_sockets *sockets)
{
    int running;

    /* The order is from the last socket to the first: sockets that libcurl adds meanwhile come
     * behind this one. A removed socket's place is filled with one that was handled already. */
    while (sockets->unseen > 0) {
        size_t at = --sockets->unseen;
        int action = at < sockets->len ? action_of(&sockets->fds[at]) : 0;

        if (action == 0)
            continue;
        sockets->fds[at].revents = 0;
        curl_multi_socket_action(sockets->multi, sockets->fds[at].fd, action, &running);
        return true;
    }
    return false;
}

/* Lets libcurl do the work that needs no socket, such as beginning a request. */
static void hub_sockets_catch_up(struct hub_sockets *sockets)
{
    int running;

    if (sockets->deadline_ms < 0 || clock_monotonic_ms() < sockets->deadline_ms)
        return;
    sockets->deadline_ms = -1;
    curl_multi_socket_action(sockets->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct slot *slot = context;
    struct bytes chunk = {data, size * count};
    struct bytes expected = bytes_slice(buf_bytes(&slot->id), slot->body_len, chunk.len);

    slot->body_is_id = slot->body_is_id && bytes_equal(chunk, expected);
    slot->body_len += chunk.len;
    if (!slot->body_is_id)
        hub_answer_excerpt_add(&slot->excerpt, chunk);
    return slot->body_len > BODY_LENGTH_MAX ? 0 : chunk.len;
}

/* Checks that a token may be sent to this URL. *shown_url is the URL without its query. */
static int read_url(CURLU *parsed, const char *url, char **shown_url, struct error *err)
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
        *shown_url = xstrndup(url, strcspn(url, "?#"));
    }
    curl_free(part);
    return result;
}

static void prepare_easy(struct slot *slot, const struct settings_mercure *settings)
{
    CURL *easy = slot->easy;

    curl_easy_setopt(easy, CURLOPT_CURLU, slot->hub->url);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, ANSWER_BUFFER);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Ending a request does not wait for its look-up. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)settings->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->why);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "mqtt-bridge/" MQTT_BRIDGE_VERSION);
    if (settings->ca_file[0] != '\0')
        curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca_file);
}

static struct slot *add_slot(struct hub *hub)
{
    struct slot *slot = xcalloc(1, sizeof(*slot));

    slot->hub = hub;
    slot->number = hub->slots_len++;
    slot->easy = curl_easy_init();
    if (slot->easy == NULL)
        abort();
    prepare_easy(slot, hub->settings);
    hub->slots = xrealloc(hub->slots, hub->slots_len * sizeof(struct slot *));
    hub->slots[slot->number] = slot;
    curl_multi_setopt(hub->multi, CURLMOPT_MAXCONNECTS, (long)(hub->slots_len + SPARE_SOCKETS));
    return slot;
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
    result = read_url(made->url, settings->url, &made->shown_url, err);
    if (result == 0)
        result = jwt_new(&made->jwt, settings, err);
    if (result < 0) {
        hub_free(made);
        return result;
    }
    hub_address_init(&made->address, made->url);
    made->settings = settings;
    made->multi = curl_multi_init();
    if (made->multi == NULL)
        abort();
    hub_sockets_init(&made->sockets, made->multi);
    curl_multi_setopt(made->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    *hub = made;
    return 0;
}

void hub_free(struct hub *hub)
{
    if (hub == NULL)
        return;
    for (size_t i = 0; i < hub->slots_len; i++) {
        struct slot *slot = hub->slots[i];

        curl_multi_remove_handle(hub->multi, slot->easy);
        curl_easy_cleanup(slot->easy);
        curl_slist_free_all(slot->headers);
        curl_slist_free_all(slot->addresses.list);
        buf_free(&slot->form);
        buf_free(&slot->id);
        free(slot);
    }
    if (hub->multi != NULL)
        curl_multi_cleanup(hub->multi);
    hub_sockets_free(&hub->sockets);
    hub_address_free(&hub->address);
    free(hub->slots);
    curl_url_cleanup(hub->url);
    jwt_free(hub->jwt);
    free(hub->shown_url);
    free(hub->token);
    free(hub);
    curl_global_cleanup();
}

size_t hub_idle_slot(struct hub *hub)
{
    if (hub->idle == NULL)
        hub->idle = add_slot(hub);
    return hub->idle->number;
}

struct buf *hub_form(struct hub *hub, size_t slot)
{
    buf_clear(&hub->slots[slot]->form);
    return &hub->slots[slot]->form;
}

size_t hub_busy(const struct hub *hub)
{
    return hub->busy;
}

/* Gets the current token. A new token raises token_version. */
static int update_token(struct hub *hub, struct error *err)
{
    const char *token = jwt_token(hub->jwt, clock_wall_us() / 1000000, err);

    if (token == NULL)
        return -ERR_SYSTEM;
    if (strcmp(token, hub->token) != 0) {
        free(hub->token);
        hub->token = xstrdup(token);
        hub->token_version++;
    }
    return 0;
}

static void set_headers(struct slot *slot)
{
    struct hub *hub = slot->hub;

    if (slot->headers != NULL && slot->token_version == hub->token_version)
        return;
    curl_slist_free_all(slot->headers);
    char *line = xasprintf("Authorization: Bearer %s", hub->token);
    slot->headers = curl_slist_append(NULL, line);
    /* "Expect: 100-continue" would cost a round trip for every large update. */
    curl_slist_append(slot->headers, "Expect:");
    free(line);
    slot->token_version = hub->token_version;
    curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers);
}

static void start(struct slot *slot)
{
    struct hub *hub = slot->hub;
    struct error err = {0};

    slot->body_len = 0;
    slot->body_is_id = true;
    slot->excerpt.len = 0;
    slot->why[0] = '\0';
    if (update_token(hub, &err) < 0) {
        snprintf(slot->why, sizeof(slot->why), "%s", err.text);
        slot->stuck = true;
        hub->stuck++;
        return;
    }
    set_headers(slot);
    hub_address_give(&hub->address, slot->easy, &slot->addresses);
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->form.len > 0 ? slot->form.data : "");
    curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)slot->form.len);
    if (curl_multi_add_handle(hub->multi, slot->easy) != CURLM_OK)
        abort();
}

void hub_send(struct hub *hub, size_t number, struct bytes id, int64_t timeout_ms, void *owner)
{
    struct slot *slot = hub->slots[number];

    if (slot != hub->idle)
        abort();
    hub->idle = slot->next_idle;
    buf_clear(&slot->id);
    buf_append(&slot->id, id);
    slot->busy = true;
    slot->renewed = false;
    slot->owner = owner;
    slot->sent_us = clock_monotonic_us();
    if (timeout_ms != slot->timeout_ms)
        curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    slot->timeout_ms = timeout_ms;
    hub->busy++;
    start(slot);
}

/* Sends a request again after a 401, once, if another token is at hand. Returns true if the
 * request was sent. */
static bool send_again(struct slot *slot)
{
    struct hub *hub = slot->hub;

    if (slot->renewed)
        return false;
    slot->renewed = true;
    /* The 401 of another request may have renewed the token already. */
    if (slot->token_version == hub->token_version) {
        jwt_renew(hub->jwt);
        if (update_token(hub, NULL) < 0 || slot->token_version == hub->token_version)
            return false;
    }
    start(slot);
    return true;
}

/* Returns the time of Retry-After. libcurl reads both forms, seconds and a date. */
static int64_t retry_after_ms(const struct slot *slot)
{
    curl_off_t seconds = 0;

    curl_easy_getinfo(slot->easy, CURLINFO_RETRY_AFTER, &seconds);
    return seconds > 0 && seconds < RETRY_AFTER_MAX_S ? (int64_t)seconds * 1000 : 0;
}

static void describe(const struct slot *slot, struct hub_result *result)
{
    const struct hub *hub = slot->hub;

    result->text[0] = '\0';
    if (result->answer.outcome == HUB_PASSED)
        return;
    if (result->status == 0) {
        snprintf(result->text, sizeof(result->text), "%.80s: %s", hub->shown_url,
                 slot->why[0] != '\0' ? slot->why : result->answer.meaning);
        return;
    }
    snprintf(result->text, sizeof(result->text), "%.80s: %s (HTTP %ld)", hub->shown_url,
             result->answer.meaning, result->status);
    hub_answer_excerpt_append(&slot->excerpt, hub->token, result->text, sizeof(result->text));
}

static void finish(struct slot *slot, CURLcode code)
{
    struct hub *hub = slot->hub;
    struct hub_result result = {0};
    bool too_long = slot->body_len > BODY_LENGTH_MAX;

    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && too_long))
        curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &result.status);
    else if (slot->why[0] == '\0')
        snprintf(slot->why, sizeof(slot->why), "%s", curl_easy_strerror(code));
    if (result.status == 0)
        hub_address_failed(&hub->address);
    bool id_matches = slot->body_is_id && slot->body_len == slot->id.len;
    result.answer = hub_answer_read(result.status, id_matches);
    if (result.answer.outcome == HUB_UNAUTHORIZED && send_again(slot))
        return;
    if (result.status != 0 && result.answer.outcome != HUB_PASSED)
        result.retry_after_ms = retry_after_ms(slot);
    result.took_us = clock_monotonic_us() - slot->sent_us;
    describe(slot, &result);
    if (slot->form.capacity > FORM_KEPT_MAX)
        buf_free(&slot->form);
    slot->busy = false;
    slot->next_idle = hub->idle;
    hub->idle = slot;
    hub->busy--;
    hub->answered(hub->context, slot->owner, &result);
}

void hub_cancel(struct hub *hub, size_t number, const char *why)
{
    struct slot *slot = hub->slots[number];

    if (!slot->busy)
        abort();
    curl_multi_remove_handle(hub->multi, slot->easy);
    hub->stuck -= slot->stuck;
    slot->stuck = false;
    snprintf(slot->why, sizeof(slot->why), "%s", why);
    finish(slot, CURLE_OPERATION_TIMEDOUT);
}

static void finish_stuck(struct hub *hub)
{
    size_t stuck = hub->stuck;

    for (size_t i = 0; i < hub->slots_len && stuck > 0; i++) {
        if (!hub->slots[i]->stuck)
            continue;
        hub->slots[i]->stuck = false;
        hub->stuck--;
        stuck--;
        finish(hub->slots[i], CURLE_FAILED_INIT);
    }
}

static void finish_answered(struct hub *hub)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(hub->multi, &left)) != NULL) {
        struct slot *slot;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
        curl_multi_remove_handle(hub->multi, slot->easy);
        finish(slot, code);
    }
}

void hub_poll(struct hub *hub, struct pollfd *extra, unsigned extra_len, int timeout_ms)
{
    hub_sockets_wait(&hub->sockets, extra, extra_len, hub->stuck > 0 ? 0 : timeout_ms);
}

void hub_process(struct hub *hub)
{
    finish_stuck(hub);
    /* Sockets are handled one by one, with the answers after each. A connection thus gets its
     * next request at once, and the hub always has work. */
    while (hub_sockets_step(&hub->sockets))
        finish_answered(hub);
    hub_sockets_catch_up(&hub->sockets);
    finish_answered(hub);
}

static void keep_result(void *context, void *owner, const struct hub_result *result)
{
    (void)owner;
    *(struct hub_result *)context = *result;
}

int hub_publish_once(const struct settings_mercure *settings, struct bytes form, struct bytes id,
                     int64_t timeout_ms, struct hub_result *result, struct error *err)
{
    struct hub *hub = NULL;
    int status = hub_new(&hub, settings, keep_result, result, err);

    if (status < 0)
        return status;
    size_t slot = hub_idle_slot(hub);
    buf_append(hub_form(hub, slot), form);
    hub_send(hub, slot, id, timeout_ms, NULL);
    while (hub_busy(hub) > 0) {
        hub_process(hub);
        if (hub_busy(hub) > 0)
            hub_poll(hub, NULL, 0, 1000);
    }
    hub_free(hub);
    return 0;
}

void hub_probe_form(struct buf *form)
{
    struct update update = {.topic = HUB_PROBE_ID, .private_update = true, .id = HUB_PROBE_ID};

    update_form(form, &update);
}

static int judge_failure(const struct hub_result *result, struct error *err)
{
    if (result->status == 0 || result->status == 408 || result->status == 425 ||
        result->status >= 500)
        return error_set(err, ERR_UNREACHABLE, "%s", result->text);
    return error_set(err, ERR_REFUSED, "%s; is MERCURE_URL right?", result->text);
}

int hub_probe_judge(const struct hub_result *result, struct error *err)
{
    switch (result->answer.outcome) {
    case HUB_PASSED:
        return 0;
    case HUB_FAILED:
        return judge_failure(result, err);
    case HUB_LIMITED:
        return error_set(err, ERR_UNREACHABLE, "%s", result->text);
    case HUB_REFUSED:
        return error_set(err, ERR_REFUSED, "%s; is MERCURE_URL right?", result->text);
    case HUB_UNAUTHORIZED:
        return error_set(err, ERR_REFUSED,
                         "%s; is MERCURE_JWT_SECRET (or MERCURE_JWT) its publisher key?",
                         result->text);
    }
    return 0;
}

int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms, struct error *err)
{
    struct hub_result result = {0};
    struct hub_result bare = {0};
    struct buf form = {0};

    hub_probe_form(&form);
    int status =
        hub_publish_once(settings, buf_bytes(&form), HUB_PROBE_ID, timeout_ms, &result, err);
    buf_free(&form);
    /* The token may be limited to some topics. A hub that accepts the token answers 400 to an
     * update without a topic. */
    if (status == 0 && result.answer.outcome == HUB_UNAUTHORIZED)
        status = hub_publish_once(settings, BYTES(""), HUB_PROBE_ID, timeout_ms, &bare, err);
    if (status == 0 && bare.status == 400)
        return 0;
    return status < 0 ? status : hub_probe_judge(&result, err);
}
