#include "cli/check_broker.h"

#include "cli/check_login.h"
#include "cli/check_tls.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/client/resolve.h"
#include "common/settings/broker_address.h"
#include "common/wire/mqtt_codes.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_ID_MUST_TAKE 23
#define HEX_DIGITS          5

struct checking {
    const struct settings_mqtt *mqtt;
    struct check_server *server;
    struct broker_address address;
    char numeric[RESOLVE_ADDRESS_SIZE]; /* the one that the library connects to */
};

/* The client id -------------------------------------------------------------------------------- */

void check_client_id(const char *client_id, uint64_t random, char out[CHECK_CLIENT_ID_SIZE])
{
    size_t room = strlen(client_id);
    size_t more = strlen("-check-") + HEX_DIGITS;

    room = (room > CLIENT_ID_MUST_TAKE ? room : CLIENT_ID_MUST_TAKE) - more;
    size_t len = strnlen(client_id, room);
    /* A character of several bytes is not cut in two. */
    while (client_id[len] && len > 0 && ((unsigned char)client_id[len] & 0xc0) == 0x80)
        len--;
    snprintf(out, CHECK_CLIENT_ID_SIZE, "%.*s-check-%0*x", (int)len, client_id, HEX_DIGITS,
             (unsigned)(random & 0xfffff));
}

/* Why there is no connection ------------------------------------------------------------------- */

static bool wait_for(int fd, short events, int64_t deadline_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int ready;

    do {
        ready = poll(&poll_fd, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms()));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        errno = ETIMEDOUT;
    return ready > 0;
}

/* A connected descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *info, int64_t deadline_ms)
{
    int fault = 0;
    socklen_t size = sizeof(fault);
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    bool connected = connect(fd, info->ai_addr, info->ai_addrlen) == 0;
    if (!connected && errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms)) {
        connected = getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size) == 0 && fault == 0;
        errno = fault;
    }
    if (connected)
        return fd;
    fault = errno;
    close(fd);
    errno = fault;
    return -1;
}

static int connect_to(const char *numeric, const char *port, int64_t deadline_ms)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;

    if (getaddrinfo(numeric, port, &hints, &found) != 0) {
        errno = EINVAL;
        return -1;
    }
    int fd = connect_one(found, deadline_ms);
    int fault = errno;
    freeaddrinfo(found);
    errno = fault;
    return fd;
}

/* "see [mqtt] host and port (MQTT_HOST, MQTT_PORT)"; a further consumer's keys have no variables. */
static void fail(struct checking *checking, const char *what, const char *keys,
                 const char *variables)
{
    const char *name = checking->mqtt->name;
    char *mend = name[0] ? xasprintf("see %s of [consumer:%s] or [mqtt]", keys, name)
                         : xasprintf("see [mqtt] %s (%s)", keys, variables);

    check_server_fail(checking->server, what, mend);
    free(mend);
}

static void fail_at_address(struct checking *checking, const char *what)
{
    if (checking->mqtt->server_uris[0])
        check_server_fail(checking->server, what, "see server_uris");
    else
        fail(checking, what, "host, port and tls", "MQTT_HOST, MQTT_PORT, MQTT_TLS");
}

static void say_no_answer(struct checking *checking, const char *what)
{
    char *text = xasprintf("%s within %d s", what, CHECK_TIMEOUT_MS / 1000);

    fail_at_address(checking, text);
    free(text);
}

/* The library has no reason to tell: it is looked for on a connection of our own. */
static void explain(struct checking *checking, enum login_result result)
{
    const struct broker_address *address = &checking->address;
    struct buf why = {0};
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_TIMEOUT_MS;
    int fd = connect_to(checking->numeric, address->port, deadline_ms);

    if (fd < 0 && errno == ETIMEDOUT) {
        say_no_answer(checking, "no answer");
    } else if (fd < 0) {
        fail_at_address(checking, strerror(errno));
    } else if (result == LOGIN_SILENT) {
        say_no_answer(checking, "it takes the connection but gives no answer");
    } else if (!address->tls) {
        fail_at_address(checking, "it ends the connection without an answer: does it want TLS "
                                  "(MQTT_TLS)?");
    } else if (check_tls(checking->mqtt, address->host, fd, deadline_ms, &why)) {
        bool ipv6 = strchr(address->host, ':') && checking->mqtt->tls_verify;

        check_server_fail(checking->server,
                          "it ends the connection behind the TLS handshake, without an answer",
                          ipv6 ? "the MQTT library compares no certificate with an IPv6 address: "
                                 "give the broker's name"
                               : "its log may say why");
    } else {
        check_server_fail(checking->server, buf_text(&why), "");
    }
    if (fd >= 0)
        close(fd);
    buf_free(&why);
}

/* Trying ---------------------------------------------------------------------------------------- */

/* The library looks names up itself, and blocks: what has no address now is not given to it. */
static bool look_up(struct checking *checking)
{
    struct resolve *resolve = resolve_new(checking->address.host);
    struct resolve_answer answer = {0};
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_TIMEOUT_MS;
    bool answered;

    resolve_ask(resolve);
    while (!(answered = resolve_take(resolve, &answer)) &&
           wait_for(resolve_fd(resolve), POLLIN, deadline_ms)) {
    }
    resolve_free(resolve);
    if (!answered)
        say_no_answer(checking, "the name servers give no answer");
    else if (answer.len == 0)
        fail_at_address(checking, answer.text);
    /* The library takes the first of IPv4, else the first, and tries no other. */
    resolve_put_ipv4_first(&answer);
    snprintf(checking->numeric, sizeof(checking->numeric), "%s", answer.address[0]);
    return answer.len > 0;
}

static bool is_bad_version(const struct login_answer *answer)
{
    return answer->result == LOGIN_REFUSED && (answer->code == 1 || answer->code == 0x84);
}

static void say_refused(struct checking *checking, int version, int code, const char *client_id)
{
    char *what = xasprintf("it refuses the connection: %s", mqtt_code_text(version, code));
    bool three = version == 4;
    bool not_authorized = code == (three ? 5 : 0x87);

    if (code == (three ? 2 : 0x85) || (not_authorized && !checking->mqtt->username[0])) {
        char *mend = xasprintf("does it want a user (username, password), or only certain client "
                               "ids? This check's is \"%s\"",
                               client_id);

        check_server_fail(checking->server, what, mend);
        free(mend);
    } else if (not_authorized || code == (three ? 4 : 0x86) || code == 0x8c) {
        fail(checking, what, "username and password", "MQTT_USERNAME, MQTT_PASSWORD");
    } else if (code == (three ? 1 : 0x84)) {
        check_server_fail(checking->server, what, "see [mqtt] version");
    } else {
        check_server_fail(checking->server, what, "its log may say why");
    }
    free(what);
}

static void log_in(struct checking *checking)
{
    const struct settings_mqtt *mqtt = checking->mqtt;
    const char *uri = checking->address.uri;
    char client_id[CHECK_CLIENT_ID_SIZE];
    bool five = mqtt->version == MQTT_VERSION_5;
    int version = five ? 5 : 4;

    check_client_id(mqtt->client_id, random_u64(), client_id);
    struct login_answer answer = check_login(mqtt, uri, client_id, version, CHECK_TIMEOUT_MS);
    if (five && (is_bad_version(&answer) || answer.result == LOGIN_ENDED)) {
        /* Some refuse MQTT 5 by hanging up. */
        version = 4;
        answer = check_login(mqtt, uri, client_id, version, CHECK_TIMEOUT_MS);
    }
    switch (answer.result) {
    case LOGIN_TAKEN:
        if (five && version == 4)
            check_server_note(checking->server, "it refuses MQTT 5; 3.1.1 is used");
        break;
    case LOGIN_REFUSED:
        say_refused(checking, version, answer.code, client_id);
        break;
    case LOGIN_ENDED:
    case LOGIN_SILENT:
        explain(checking, answer.result);
        break;
    case LOGIN_FAULT:
        fail_at_address(checking, check_login_fault(answer.code));
        break;
    }
}

void check_broker(const struct settings_mqtt *mqtt, struct check_server *server)
{
    struct checking checking = {.mqtt = mqtt, .server = server};
    struct buf why = {0};
    struct error err = {0};

    if (broker_address_read(&checking.address, bytes_of(server->address), mqtt->tls, &err) < 0)
        check_server_fail(server, err.text, "see server_uris");
    else if (checking.address.tls && !check_tls_files(mqtt, &why))
        check_server_fail(server, buf_text(&why), "");
    else if (look_up(&checking))
        log_in(&checking);
    buf_free(&why);
    broker_address_free(&checking.address);
}
