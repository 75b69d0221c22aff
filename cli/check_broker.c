#include "cli/check_broker.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/random.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNACK_SIZE 4

struct address {
    char *host;
    char *port;
    bool tls;
};

static bool split_uri(struct bytes uri, struct address *address)
{
    static const struct {
        const char *scheme;
        const char *port;
        bool tls;
    } SCHEMES[] = {{"tcp://", "1883", false},
                   {"mqtt://", "1883", false},
                   {"ssl://", "8883", true},
                   {"mqtts://", "8883", true}};
    size_t i = 0;
    while (i < 4 && !bytes_starts_with(uri, bytes_of(SCHEMES[i].scheme))) {
        i++;
    }
    if (i == 4) {
        return false;
    }
    size_t scheme = strlen(SCHEMES[i].scheme);
    struct bytes host = bytes_slice(uri, scheme, uri.len - scheme);
    struct bytes port = bytes_of(SCHEMES[i].port);
    struct bytes behind = host;
    if (host.len > 0 && host.data[0] == '[') {
        bytes_split(bytes_slice(host, 1, host.len), ']', &host, &behind);
        bytes_split(behind, ':', &behind, &behind);
        port = behind.len > 0 ? behind : port;
    } else if (bytes_split(behind, ':', &host, &behind)) {
        port = behind;
    }
    address->host = xstrndup(host.len > 0 ? host.data : "", host.len);
    address->port = xstrndup(port.data, port.len);
    address->tls = SCHEMES[i].tls;
    return true;
}

static bool wait_for(int fd, short events, int64_t deadline_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int ready;
    do {
        ready = poll(&poll_fd, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms()));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        errno = ETIMEDOUT;
    }
    return ready > 0;
}

/* A connected descriptor, or -1 with errno. */
static int connect_one(const struct addrinfo *info, int64_t deadline_ms)
{
    int fault = 0;
    socklen_t size = sizeof(fault);
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    bool connected = connect(fd, info->ai_addr, info->ai_addrlen) == 0;
    if (!connected && errno == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ms)) {
        connected = getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size) == 0 && fault == 0;
        errno = fault;
    }
    if (connected) {
        return fd;
    }
    fault = errno;
    close(fd);
    errno = fault;
    return -1;
}

static int connect_to(const struct address *address, int64_t deadline_ms, struct error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int fd = -1;
    int code = getaddrinfo(address->host, address->port, &hints, &found);
    if (code != 0) {
        return error_set(err, ERR_UNREACHABLE, "%s", gai_strerror(code));
    }
    for (const struct addrinfo *info = found; info && fd < 0; info = info->ai_next) {
        fd = connect_one(info, deadline_ms);
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return error_set(err, ERR_UNREACHABLE, "%s", strerror(errno));
    }
    return fd;
}

static void append_u16(struct buf *out, size_t value)
{
    buf_append_char(out, (char)(value >> 8 & 0xff));
    buf_append_char(out, (char)(value & 0xff));
}

static void append_field(struct buf *out, const char *text)
{
    struct bytes field = bytes_slice(bytes_of(text), 0, UINT16_MAX);
    append_u16(out, field.len);
    buf_append(out, field);
}

void check_broker_packet(const struct settings_mqtt *mqtt, const char *client_id, struct buf *out)
{
    struct buf body = {0};
    bool user = mqtt->username[0] != '\0';
    bool password = user && mqtt->password[0] != '\0';
    append_field(&body, "MQTT");
    buf_append_char(&body, 4);
    /* Clean session, and which of the two follow. */
    buf_append_char(&body, (char)(0x02 | (user ? 0x80 : 0) | (password ? 0x40 : 0)));
    append_u16(&body, 10);
    append_field(&body, client_id);
    if (user) {
        append_field(&body, mqtt->username);
    }
    if (password) {
        append_field(&body, mqtt->password);
    }
    buf_append_char(out, 0x10);
    size_t rest = body.len;
    do {
        buf_append_char(out, (char)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0)));
        rest >>= 7;
    } while (rest > 0);
    buf_append(out, buf_bytes(&body));
    buf_free(&body);
}

int check_broker_judge(struct bytes answer, struct error *err)
{
    static const char *const REASONS[] = {
        [1] = "it does not speak MQTT 3.1.1",
        [2] = "it does not take this client id",
        [3] = "it says that it is unavailable",
        [4] = "bad user name or password",
        [5] = "not authorised",
    };
    if (answer.len == 0) {
        return error_set(err, ERR_REFUSED, "it closes the connection without an answer");
    }
    if (answer.len < CONNACK_SIZE || answer.data[0] != 0x20 || answer.data[1] != 2) {
        return error_set(err, ERR_FORMAT, "what answers there does not speak MQTT");
    }
    unsigned code = (unsigned char)answer.data[3];
    if (code == 0) {
        return 0;
    }
    if (code < sizeof(REASONS) / sizeof(REASONS[0])) {
        return error_set(err, ERR_REFUSED, "it refuses the connection: %s", REASONS[code]);
    }
    return error_set(err, ERR_REFUSED, "it refuses the connection with code %u", code);
}

/* Sends the packet and reads the answer; a broker that does not know the client may simply close. */
static int converse(int fd, struct bytes packet, int64_t deadline_ms, struct error *err)
{
    char answer[CONNACK_SIZE];
    size_t len = 0;
    if (send(fd, packet.data, packet.len, MSG_NOSIGNAL) != (ssize_t)packet.len) {
        return error_set(err, ERR_UNREACHABLE, "%s", strerror(errno));
    }
    while (len < sizeof(answer)) {
        if (!wait_for(fd, POLLIN, deadline_ms)) {
            return error_set(err, ERR_UNREACHABLE, "it takes the connection but gives no answer");
        }
        ssize_t got = read(fd, answer + len, sizeof(answer) - len);
        if (got <= 0) {
            break;
        }
        len += (size_t)got;
    }
    return check_broker_judge((struct bytes){answer, len}, err);
}

static int log_in(const struct settings_mqtt *mqtt, int fd, int64_t deadline_ms, struct error *err)
{
    static const char DISCONNECT[] = {(char)0xe0, 0};
    char client_id[24]; /* 3.1.1 brokers must take 23 bytes */
    struct buf packet = {0};
    snprintf(client_id, sizeof(client_id), "check%016" PRIx64, random_u64());
    check_broker_packet(mqtt, client_id, &packet);
    int result = converse(fd, buf_bytes(&packet), deadline_ms, err);
    if (result == 0 && send(fd, DISCONNECT, sizeof(DISCONNECT), MSG_NOSIGNAL) < 0) {
        result = error_set(err, ERR_UNREACHABLE, "%s", strerror(errno));
    }
    buf_free(&packet);
    return result;
}

int check_broker(const struct settings_mqtt *mqtt, struct bytes uri, int64_t timeout_ms,
                 struct error *err)
{
    struct address address;
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    if (!split_uri(uri, &address)) {
        return error_set(err, ERR_USAGE,
                         "its address begins with none of tcp://, ssl://, mqtt://, mqtts://");
    }
    int fd = connect_to(&address, deadline_ms, err);
    int result = fd < 0 ? fd : 0;
    if (fd >= 0 && !address.tls) {
        result = log_in(mqtt, fd, deadline_ms, err);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(address.host);
    free(address.port);
    return result;
}
