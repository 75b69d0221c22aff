#include "common/client/redis_dial.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/redis_resp.h"
#include "common/client/resolve.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOPS_MAX      6 /* most redirections from node to node */
#define GREETINGS_MAX 3
#define READ_SIZE     4096

enum dial_step {
    DIAL_IDLE,
    DIAL_LOOKING_UP,
    DIAL_CONNECTING,
    DIAL_SHAKING_HANDS,
    DIAL_GREETING,
    DIAL_DONE, /* connected: the socket can be taken */
};

enum dial_goal {
    GOAL_SERVER,   /* the DSN's only server, or the node of an ASK */
    GOAL_SENTINEL, /* tells the primary's address */
    GOAL_PRIMARY,
    GOAL_NODE, /* a Cluster's node: has the stream's slot, or tells who has */
};

enum greeting {
    GREETING_AUTH,
    GREETING_SELECT,
    GREETING_MASTER,
    GREETING_ROLE,
    GREETING_SLOT,
};

struct redis_dial {
    int64_t timeout_ms;
    const struct dsn_redis *dsn;
    enum dial_step step;
    enum dial_goal goal;

    struct dsn_host there; /* the host that a Sentinel or MOVED named; host NULL: none */
    bool is_there;         /* the current hop goes to `there` */
    bool redirected;       /* the current hop's answers name another host */
    size_t first, tried;   /* among the DSN's hosts: first index, and number tried */
    unsigned hops;

    char *host; /* the current hop's host; NULL: the DSN's UNIX socket */
    int port;
    struct resolve *resolve[DSN_HOSTS_MAX + 1]; /* for the DSN's hosts, and for `there` */
    struct resolve *looked_up;
    struct resolve_answer addresses;
    size_t addresses_tried;
    int64_t limit_ms;    /* time-out of a step */
    int64_t deadline_ms; /* deadline of the current step, or of the current address */
    int64_t connect_by_ms;

    struct tls_socket *socket;
    struct buf output;
    size_t written;
    redisReader *reader;
    enum greeting greetings[GREETINGS_MAX];
    size_t greetings_len, answered;
};

struct redis_dial *redis_dial_new(int64_t timeout_ms)
{
    struct redis_dial *made = xcalloc(1, sizeof(*made));

    made->timeout_ms = timeout_ms;
    return made;
}

static void hang_up(struct redis_dial *dial)
{
    tls_socket_free(dial->socket);
    dial->socket = NULL;
    if (dial->reader != NULL)
        redisReaderFree(dial->reader);
    dial->reader = NULL;
    if (dial->output.data != NULL)
        explicit_bzero(dial->output.data, dial->output.len); /* it may hold AUTH */
    buf_clear(&dial->output);
    dial->written = 0;
}

static void forget_there(struct redis_dial *dial)
{
    free(dial->there.host);
    dial->there = (struct dsn_host){0};
}

void redis_dial_free(struct redis_dial *dial)
{
    if (dial == NULL)
        return;
    hang_up(dial);
    forget_there(dial);
    free(dial->host);
    for (size_t i = 0; i < DSN_HOSTS_MAX + 1; i++)
        resolve_free(dial->resolve[i]);
    buf_free(&dial->output);
    free(dial);
}

void redis_dial_end(struct redis_dial *dial)
{
    hang_up(dial);
    dial->step = DIAL_IDLE;
}

static int fail(struct redis_dial *dial, enum error_code code, const char *why, struct error *err)
{
    static const char *const NAMES[] = {[GOAL_SENTINEL] = "the Sentinel ",
                                        [GOAL_PRIMARY] = "the primary ",
                                        [GOAL_NODE] = "the node ",
                                        [GOAL_SERVER] = "the node "};
    bool several = dial->dsn->cluster || dial->dsn->sentinel_master != NULL;

    if (!several)
        return error_set(err, code, "%s", why);
    return error_set(err, code, "%s%s:%d: %s", NAMES[dial->goal], dial->host, dial->port, why);
}

static int fail_for(struct redis_dial *dial, struct error *err)
{
    struct error cause = *err;

    return fail(dial, cause.code, cause.text, err);
}

/* Returns a hint for an error whose text from the server has no hint. */
static const char *mend_of(const struct redis_dial *dial, enum greeting greeting, struct bytes said)
{
    if (greeting == GREETING_SELECT && memmem(said.data, said.len, "out of range", 12) != NULL)
        return "; see dbindex, this server has not so many databases";
    if (dial->goal != GOAL_SENTINEL)
        return "";
    if (bytes_starts_with(said, BYTES("NOAUTH")) || bytes_starts_with(said, BYTES("WRONGPASS")))
        return "; the Sentinels' own password is sentinel_auth";
    if (memmem(said.data, said.len, "unknown command", 15) != NULL)
        return "; is it a Sentinel? They listen to a port of their own (26379)";
    return "";
}

static void greet(struct redis_dial *dial, enum greeting greeting, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    redis_format(&dial->output, format, arguments);
    va_end(arguments);
    dial->greetings[dial->greetings_len++] = greeting;
}

static void greet_as(struct redis_dial *dial, const char *user, const char *password)
{
    if (password == NULL)
        return;
    if (user != NULL && user[0] != '\0')
        greet(dial, GREETING_AUTH, "AUTH %s %s", user, password);
    else
        greet(dial, GREETING_AUTH, "AUTH %s", password);
}

static void write_greetings(struct redis_dial *dial)
{
    const struct dsn_redis *dsn = dial->dsn;

    dial->greetings_len = 0;
    dial->answered = 0;
    dial->reader = redisReaderCreate();
    if (dial->reader == NULL)
        abort(); /* out of memory */
    if (dial->goal == GOAL_SENTINEL) {
        greet_as(dial, dsn->sentinel_user, dsn->sentinel_password);
        greet(dial, GREETING_MASTER, "SENTINEL GET-MASTER-ADDR-BY-NAME %s", dsn->sentinel_master);
        return;
    }
    greet_as(dial, dsn->user, dsn->password);
    if (dsn->dbindex != 0)
        greet(dial, GREETING_SELECT, "SELECT %lld", (long long)dsn->dbindex);
    if (dial->goal == GOAL_PRIMARY)
        greet(dial, GREETING_ROLE, "ROLE");
    else if (dial->goal == GOAL_NODE)
        greet(dial, GREETING_SLOT, "EXISTS %s", dsn->stream);
}

static int begin_hop(struct redis_dial *dial, struct error *err);

/* Sets `there` from "host:port". A missing host means the host that answered. */
static bool set_there(struct redis_dial *dial, struct bytes address)
{
    const char *colon = address.len > 0 ? memrchr(address.data, ':', address.len) : NULL;
    uint16_t port;

    if (colon == NULL)
        return false;
    size_t len = (size_t)(colon - address.data);
    if (!bytes_to_port(bytes_slice(address, len + 1, address.len), &port) ||
        (len == 0 && dial->host == NULL))
        return false;
    char *host = len > 0 ? xstrndup(address.data, len) : xstrdup(dial->host);
    forget_there(dial);
    dial->there = (struct dsn_host){.host = host, .port = port};
    return true;
}

static void set_hop(struct redis_dial *dial, const struct dsn_host *host)
{
    hang_up(dial);
    free(dial->host);
    dial->host = host != NULL ? xstrdup(host->host) : NULL;
    dial->port = host != NULL ? host->port : 0;
    dial->redirected = false;
}

/* Begins a hop to the host that a Sentinel or a node has named. */
static int hop_there(struct redis_dial *dial, struct error *err)
{
    set_hop(dial, &dial->there);
    dial->is_there = true;
    dial->limit_ms = dial->timeout_ms;
    return begin_hop(dial, err);
}

/* Begins a hop to the next of the DSN's hosts that does not fail at once. If no host is left,
 * err is that of the last. */
static int hop_on(struct redis_dial *dial, struct error *err)
{
    const struct dsn_redis *dsn = dial->dsn;
    int result = -(int)err->code;

    dial->is_there = false;
    while (result < 0 && dial->tried < dsn->hosts_len) {
        const struct dsn_host *host = &dsn->hosts[(dial->first + dial->tried++) % dsn->hosts_len];

        set_hop(dial, host);
        dial->limit_ms = dial->timeout_ms / (int64_t)dsn->hosts_len;
        result = begin_hop(dial, err);
    }
    if (result < 0)
        redis_dial_end(dial);
    return result;
}

/* Leaves the failed hop: begins the next one, or fails. */
static int leave_hop(struct redis_dial *dial, struct error *err)
{
    bool was_sent = dial->goal == GOAL_PRIMARY || dial->hops > 0;

    if (dial->is_there)
        forget_there(dial);
    if (!was_sent && dial->goal != GOAL_SERVER)
        return hop_on(dial, err);
    /* The next attempt begins with another host, which may name a better one. */
    if (was_sent)
        dial->first++;
    redis_dial_end(dial);
    return -(int)err->code;
}

static int open_socket(struct redis_dial *dial, const char *address, struct error *err)
{
    static const struct tls_socket_words WORDS = {
        .ca_file = "ssl[cafile]",
        .ca_path = "ssl[capath]",
        .cert_file = "ssl[local_cert]",
        .key_file = "ssl[local_pk]",
        .key_must = "the private key of ssl[local_cert], ssl[passphrase] its passphrase",
        .other_name = "name the server so, or give ssl[peer_name]",
        .no_tls = "write redis://, or the port that has it",
        .has_tls = "write rediss://",
    };
    const struct dsn_redis *dsn = dial->dsn;
    const struct tls_socket_options options = {.enabled = dsn->tls,
                                               .verify_peer = dsn->tls_verify_peer,
                                               .verify_name = dsn->tls_verify_name,
                                               .allow_self_signed = dsn->tls_allow_self_signed,
                                               .sni = dsn->tls_sni,
                                               .ca_file = dsn->tls_ca_file,
                                               .ca_path = dsn->tls_ca_path,
                                               .cert_file = dsn->tls_cert_file,
                                               .key_file = dsn->tls_key_file,
                                               .passphrase = dsn->tls_passphrase,
                                               .peer_name = dsn->tls_peer_name,
                                               .words = &WORDS};

    return tls_socket_open(&dial->socket, &options, dial->host, address, dial->port, err);
}

/* Connects to the next address that does not fail at once. The addresses share the step's time
 * evenly. */
static int connect_next(struct redis_dial *dial, struct error *err)
{
    int result = -(int)ERR_UNREACHABLE;

    dial->step = DIAL_CONNECTING;
    while (result < 0 && dial->addresses_tried < dial->addresses.len) {
        int64_t now_ms = clock_monotonic_ms();
        int64_t left = (int64_t)(dial->addresses.len - dial->addresses_tried);
        const char *address = dial->addresses.address[dial->addresses_tried++];

        dial->deadline_ms = now_ms + (dial->connect_by_ms - now_ms) / left;
        hang_up(dial);
        result = open_socket(dial, address, err);
        if (result < 0)
            fail_for(dial, err);
    }
    return result;
}

static int connect_first(struct redis_dial *dial, struct error *err)
{
    dial->connect_by_ms = clock_monotonic_ms() + dial->limit_ms;
    dial->addresses_tried = 0;
    if (dial->addresses.len == 0)
        return fail(dial, ERR_UNREACHABLE, dial->addresses.text, err);
    resolve_put_ipv4_first(&dial->addresses);
    return connect_next(dial, err);
}

static struct resolve *resolve_of_hop(struct redis_dial *dial)
{
    size_t member = (dial->first + dial->tried + dial->dsn->hosts_len - 1) % dial->dsn->hosts_len;
    struct resolve **found = &dial->resolve[dial->is_there ? DSN_HOSTS_MAX : member];

    if (*found == NULL || strcmp(resolve_host(*found), dial->host) != 0) {
        resolve_free(*found);
        *found = resolve_new(dial->host);
    }
    return *found;
}

static int begin_hop(struct redis_dial *dial, struct error *err)
{
    dial->deadline_ms = clock_monotonic_ms() + dial->limit_ms;
    if (dial->host == NULL) {
        dial->addresses.len = 0;
        dial->addresses_tried = 0;
        dial->step = DIAL_CONNECTING;
        return open_socket(dial, dial->dsn->path, err);
    }
    dial->looked_up = resolve_of_hop(dial);
    resolve_ask(dial->looked_up);
    if (resolve_take(dial->looked_up, &dial->addresses))
        return connect_first(dial, err);
    dial->step = DIAL_LOOKING_UP;
    return 0;
}

static int note_master(struct redis_dial *dial, const redisReply *reply, struct error *err)
{
    char why[160];
    char address[300];

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        !redis_is_string(reply->element[0]) || !redis_is_string(reply->element[1])) {
        snprintf(why, sizeof(why), "knows no primary \"%.80s\"; see sentinel_master",
                 dial->dsn->sentinel_master);
        return fail(dial, ERR_REFUSED, why, err);
    }
    snprintf(address, sizeof(address), "%s:%s", reply->element[0]->str, reply->element[1]->str);
    dial->redirected = set_there(dial, bytes_of(address));
    if (!dial->redirected)
        return fail(dial, ERR_REFUSED, "names no address of the primary", err);
    return 0;
}

static int check_role(struct redis_dial *dial, const redisReply *reply, struct error *err)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0 ||
        !redis_is_string(reply->element[0]) ||
        bytes_equal_text(redis_text(reply->element[0]), "master"))
        return 0;
    return fail(dial, ERR_UNREACHABLE, "is a replica; the Sentinels are asked again", err);
}

/* True if the server does not tell its role or slot. Then the server is taken for the right one. */
static bool refuses_to_tell(enum greeting greeting, struct bytes said)
{
    return (greeting == GREETING_ROLE || greeting == GREETING_SLOT) &&
           (bytes_starts_with(said, BYTES("NOPERM")) || bytes_starts_with(said, BYTES("ERR ")) ||
            bytes_starts_with(said, BYTES("ASK ")));
}

static int read_error(struct redis_dial *dial, enum greeting greeting, struct bytes said,
                      struct error *err)
{
    char why[220];

    if (refuses_to_tell(greeting, said))
        return 0;
    if (greeting == GREETING_SLOT && bytes_starts_with(said, BYTES("MOVED ")) &&
        dial->hops++ < HOPS_MAX && set_there(dial, redis_dial_redirection(said))) {
        dial->redirected = true;
        return 0;
    }
    snprintf(why, sizeof(why), "%.*s%s", BYTES_ARG(said), mend_of(dial, greeting, said));
    return fail(dial, redis_classify(said), why, err);
}

static void begin_here_next_time(struct redis_dial *dial)
{
    dial->first = (dial->first + dial->tried - 1) % dial->dsn->hosts_len;
}

static int read_answer(struct redis_dial *dial, const redisReply *reply, struct error *err)
{
    enum greeting greeting = dial->greetings[dial->answered++];

    if (reply->type == REDIS_REPLY_ERROR)
        return read_error(dial, greeting, redis_text(reply), err);
    switch (greeting) {
    case GREETING_MASTER:
        return note_master(dial, reply, err);
    case GREETING_ROLE:
        return check_role(dial, reply, err);
    case GREETING_AUTH:
    case GREETING_SELECT:
        return 0;
    case GREETING_SLOT:
        if (!dial->is_there)
            begin_here_next_time(dial);
        return 0;
    }
    return 0;
}

/* Ends the greeting: returns 1 if the server is the right one, or begins the next hop. */
static int finish_greeting(struct redis_dial *dial, struct error *err)
{
    if (dial->goal == GOAL_SENTINEL) {
        begin_here_next_time(dial);
        dial->goal = GOAL_PRIMARY;
    }
    if (dial->redirected)
        return hop_there(dial, err);
    dial->step = DIAL_DONE;
    return 1;
}

static int take_answers(struct redis_dial *dial, struct error *err)
{
    void *reply = NULL;
    int result = 0;

    while (result == 0 && dial->answered < dial->greetings_len) {
        if (redisReaderGetReply(dial->reader, &reply) != REDIS_OK)
            return fail(dial, ERR_REFUSED, dial->reader->errstr, err);
        if (reply == NULL)
            return 0;
        result = read_answer(dial, reply, err);
        freeReplyObject(reply);
    }
    return result < 0 ? result : finish_greeting(dial, err);
}

static int write_output(struct redis_dial *dial, struct error *err)
{
    while (dial->written < dial->output.len) {
        ssize_t len = tls_socket_write(
            dial->socket, bytes_slice(buf_bytes(&dial->output), dial->written, dial->output.len),
            err);

        if (len < 0)
            return fail_for(dial, err);
        if (len == 0)
            return 0;
        dial->written += (size_t)len;
    }
    return 0;
}

static int exchange_greetings(struct redis_dial *dial, struct error *err)
{
    char data[READ_SIZE];

    if (dial->greetings_len == 0)
        return finish_greeting(dial, err);
    int result = write_output(dial, err);
    if (result < 0)
        return result;
    ssize_t len = 1;
    while (len > 0) {
        len = tls_socket_read(dial->socket, data, sizeof(data), err);
        if (len > 0 && redisReaderFeed(dial->reader, data, (size_t)len) != REDIS_OK)
            return fail(dial, ERR_REFUSED, dial->reader->errstr, err);
    }
    /* An answer from before the close explains more. */
    struct error why = *err;
    result = take_answers(dial, err);
    if (result == 0 && len < 0 && dial->step == DIAL_GREETING) {
        *err = why;
        return fail_for(dial, err);
    }
    return result;
}

static void begin_step(struct redis_dial *dial, enum dial_step step)
{
    dial->step = step;
    dial->deadline_ms = clock_monotonic_ms() + dial->limit_ms;
}

static int connect_on(struct redis_dial *dial, struct error *err)
{
    int result = tls_socket_connect(dial->socket, err);

    if (result < 0) {
        fail_for(dial, err);
        return connect_next(dial, err);
    }
    if (result > 0)
        begin_step(dial, DIAL_SHAKING_HANDS);
    return 0;
}

static int shake_hands(struct redis_dial *dial, struct error *err)
{
    int result = tls_socket_shake_hands(dial->socket, err);

    if (result < 0)
        return fail_for(dial, err);
    if (result > 0) {
        begin_step(dial, DIAL_GREETING);
        write_greetings(dial);
    }
    return 0;
}

static int advance(struct redis_dial *dial, struct error *err)
{
    switch (dial->step) {
    case DIAL_LOOKING_UP:
        return resolve_take(dial->looked_up, &dial->addresses) ? connect_first(dial, err) : 0;
    case DIAL_CONNECTING:
        return connect_on(dial, err);
    case DIAL_SHAKING_HANDS:
        return shake_hands(dial, err);
    case DIAL_GREETING:
        return exchange_greetings(dial, err);
    case DIAL_IDLE:
    case DIAL_DONE:
        return 0;
    }
    return 0;
}

static int time_out(struct redis_dial *dial, struct error *err)
{
    switch (dial->step) {
    case DIAL_LOOKING_UP:
        return fail(dial, ERR_UNREACHABLE, "the host's name could not be looked up in time", err);
    case DIAL_CONNECTING:
        fail(dial, ERR_UNREACHABLE, "connection timed out", err);
        return connect_next(dial, err);
    case DIAL_SHAKING_HANDS:
        return fail(dial, ERR_UNREACHABLE,
                    "TLS: the server is silent in the handshake; is there TLS on that port? "
                    "redis:// has none",
                    err);
    case DIAL_GREETING:
        return fail(dial, ERR_UNREACHABLE, "no answer in time", err);
    case DIAL_IDLE:
    case DIAL_DONE:
        break;
    }
    return 0;
}

int redis_dial_step(struct redis_dial *dial, struct error *err)
{
    const struct tls_socket *socket;
    enum dial_step before;
    int result;

    err->code = ERR_NONE;
    do { /* repeats while steps make progress */
        before = dial->step;
        socket = dial->socket;
        result = advance(dial, err);
    } while (result == 0 && (dial->step != before || dial->socket != socket));
    if (result == 0 && clock_monotonic_ms() >= dial->deadline_ms)
        result = time_out(dial, err);
    return result < 0 && dial->step != DIAL_IDLE ? leave_hop(dial, err) : result;
}

int redis_dial_begin(struct redis_dial *dial, const struct dsn_redis *dsn, struct error *err)
{
    redis_dial_end(dial);
    err->code = ERR_NONE;
    dial->dsn = dsn;
    dial->goal = dsn->sentinel_master != NULL ? GOAL_SENTINEL
                 : dsn->cluster               ? GOAL_NODE
                                              : GOAL_SERVER;
    dial->tried = 0;
    dial->hops = 0;
    dial->limit_ms = dial->timeout_ms;
    if (dsn->hosts_len == 0) {
        set_hop(dial, NULL);
        int result = begin_hop(dial, err);
        return result < 0 ? leave_hop(dial, err) : result;
    }
    bool known = dial->goal == GOAL_NODE && dial->there.host != NULL;
    if (known && hop_there(dial, err) == 0)
        return 0;
    if (known)
        forget_there(dial);
    err->code = ERR_UNREACHABLE;
    return hop_on(dial, err);
}

int redis_dial_begin_at(struct redis_dial *dial, const struct dsn_redis *dsn, struct bytes address,
                        struct error *err)
{
    redis_dial_end(dial);
    dial->dsn = dsn;
    dial->goal = GOAL_SERVER;
    dial->tried = 0;
    dial->hops = 0;
    if (!set_there(dial, address))
        return error_set(err, ERR_REFUSED, "the Cluster names no address: %.*s",
                         BYTES_ARG(address));
    int result = hop_there(dial, err);
    return result < 0 ? leave_hop(dial, err) : result;
}

bool redis_dial_is_under_way(const struct redis_dial *dial)
{
    return dial->step != DIAL_IDLE;
}

int redis_dial_fd(const struct redis_dial *dial)
{
    if (dial->step == DIAL_LOOKING_UP)
        return resolve_fd(dial->looked_up);
    return dial->socket != NULL ? tls_socket_fd(dial->socket) : -1;
}

short redis_dial_events(const struct redis_dial *dial)
{
    switch (dial->step) {
    case DIAL_LOOKING_UP:
        return POLLIN;
    case DIAL_CONNECTING:
        return POLLOUT;
    case DIAL_SHAKING_HANDS:
    case DIAL_GREETING:
        return tls_socket_events(dial->socket, dial->written < dial->output.len);
    case DIAL_IDLE:
    case DIAL_DONE:
        break;
    }
    return 0;
}

int64_t redis_dial_deadline_ms(const struct redis_dial *dial)
{
    return dial->step == DIAL_IDLE ? -1 : dial->deadline_ms;
}

struct tls_socket *redis_dial_take(struct redis_dial *dial)
{
    struct tls_socket *taken = dial->socket;

    dial->socket = NULL;
    redis_dial_end(dial);
    return taken;
}

void redis_dial_note_moved(struct redis_dial *dial, struct bytes moved)
{
    (void)set_there(dial, redis_dial_redirection(moved));
}

struct bytes redis_dial_redirection(struct bytes answer)
{
    struct bytes word, slot, address;

    bytes_split(answer, ' ', &word, &answer);
    bytes_split(answer, ' ', &slot, &address);
    return address;
}
