/* Many pages at once: connections to the hub that read what `publish` has sent, through the bridge.
 *
 *     build/tests/bench/sse_clients PORT CLIENTS TOPICS WATCHED COUNT [TOPIC]
 *
 * Each of the CLIENTS subscribes to WATCHED of the TOPICS topics of `publish`, the next client to the next ones. If
 * TOPIC is given, all subscribe to it. COUNT: the messages that are going to be published; 0: which of them were seen
 * is not looked at.
 *
 * Prints "ready" when all are subscribed, and a line of JSON on each line of standard input and at its end:
 *     connected, updates and documents so far (of all clients), complete (clients that saw each message they watch),
 *     newest_ms (the age of the newest value of each client and topic, the highest one since the last line),
 *     arrival_ms, arrival_max_ms (the age of values when they came, of those since the last line) */
#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX 5000
#define EVENTS_MAX  256
#define READ_SIZE   (256 * 1024)
#define LOOK_MS     200 /* the age of what is newest is looked at so often */
#define FIELD_TOPIC "\"topic\":\"bench/room"
#define FIELD_SEQ   "\"sequence\":"
#define FIELD_AT    "\"at\":"

struct client {
    int fd;          /* -1: the hub has ended the connection */
    struct buf line; /* the beginning of one that is not whole yet */
    bool subscribed; /* the answer's head is over */
    int64_t *newest; /* by topic: when it was sent, unix us; 0: nothing yet */
    unsigned char *seen;
    size_t seen_len;
};

struct crowd {
    struct client *clients;
    size_t len, topics, watched, count;
    const char *topic;
    int epoll;
    int64_t looked_ms;
    size_t connected, subscribed, updates, documents;
    int64_t newest_max_us;  /* since the last report */
    int64_t arrival_max_us; /* the same */
    int64_t arrival_sum_us;
    size_t arrivals;
};

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "sse_clients: ");
    perror(text);
    exit(1);
}

static bool watches(const struct crowd *crowd, size_t client, size_t topic)
{
    if (crowd->topic != NULL)
        return true;
    size_t first = client * crowd->watched % crowd->topics;

    return (topic + crowd->topics - first) % crowd->topics < crowd->watched;
}

/* HTTP/1.0: the answer has no chunks. */
static void subscribe(struct crowd *crowd, size_t number, int port)
{
    struct client *client = &crowd->clients[number];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = number};
    struct buf request = {0};
    char text[64];

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect");
    buf_append_text(&request, "GET /.well-known/mercure?");
    if (crowd->topic != NULL) {
        buf_append_text(&request, "topic=");
        buf_append_text(&request, crowd->topic);
    }
    for (size_t i = 0; crowd->topic == NULL && i < crowd->topics; i++) {
        if (!watches(crowd, number, i))
            continue;
        snprintf(text, sizeof(text), "&topic=bench/room%zu/climate", i);
        buf_append_text(&request, text);
    }
    buf_append_text(&request, " HTTP/1.0\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n");
    if (write(client->fd, request.data, request.len) != (ssize_t)request.len)
        die("write");
    buf_free(&request);
    client->newest = xcalloc(crowd->topics, sizeof(*client->newest));
    if (crowd->count > 0)
        client->seen = xcalloc(crowd->count / 8 + 1, 1);
    if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, client->fd, &event) < 0)
        die("epoll_ctl");
    crowd->connected++;
}

/* The number behind a field, from *at on; *at moves behind it. -1: there is none. */
static int64_t number_behind(struct bytes line, size_t *at, const char *field)
{
    char *end;
    const char *found = memmem(line.data + *at, line.len - *at, field, strlen(field));

    if (found == NULL)
        return -1;
    int64_t number = strtoll(found + strlen(field), &end, 10);
    *at = (size_t)(end - line.data);
    return number;
}

static void note_seen(const struct crowd *crowd, struct client *client, int64_t sequence)
{
    if (client->seen == NULL || sequence < 0 || (size_t)sequence >= crowd->count)
        return;
    unsigned char bit = (unsigned char)(1U << (sequence % 8));
    client->seen_len += (client->seen[sequence / 8] & bit) == 0;
    client->seen[sequence / 8] |= bit;
}

/* An update's data: one document, or an array of them. */
static void take_data(struct crowd *crowd, struct client *client, struct bytes line)
{
    int64_t now_us = clock_wall_us();
    size_t at = 0;

    crowd->updates++;
    while (at < line.len) {
        int64_t topic = number_behind(line, &at, FIELD_TOPIC);
        if (topic < 0 || (size_t)topic >= crowd->topics)
            return;
        int64_t sequence = number_behind(line, &at, FIELD_SEQ);
        int64_t sent_us = number_behind(line, &at, FIELD_AT);
        crowd->documents++;
        crowd->arrivals++;
        crowd->arrival_sum_us += now_us - sent_us;
        if (crowd->arrival_max_us < now_us - sent_us)
            crowd->arrival_max_us = now_us - sent_us;
        if (client->newest[topic] < sent_us)
            client->newest[topic] = sent_us;
        note_seen(crowd, client, sequence);
    }
}

static void take_line(struct crowd *crowd, struct client *client, struct bytes line)
{
    if (!client->subscribed && line.len <= 1) { /* "\r" */
        client->subscribed = true;
        crowd->subscribed++;
    } else if (bytes_starts_with(line, bytes_of("data:"))) {
        take_data(crowd, client, line);
    }
}

static void take_bytes(struct crowd *crowd, struct client *client, struct bytes data)
{
    const char *end;

    while ((end = memchr(data.data, '\n', data.len)) != NULL) {
        size_t len = (size_t)(end - data.data);

        if (client->line.len > 0) {
            buf_append(&client->line, (struct bytes){data.data, len});
            take_line(crowd, client, buf_bytes(&client->line));
            buf_clear(&client->line);
        } else {
            take_line(crowd, client, (struct bytes){data.data, len});
        }
        data = bytes_slice(data, len + 1, data.len);
    }
    buf_append(&client->line, data);
}

static void read_client(struct crowd *crowd, struct client *client)
{
    static char buffer[READ_SIZE + 1];
    ssize_t got = recv(client->fd, buffer, READ_SIZE, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        close(client->fd);
        client->fd = -1;
        crowd->connected--;
        return;
    }
    buffer[got] = '\0';
    take_bytes(crowd, client, (struct bytes){buffer, (size_t)got});
}

static void look_at_ages(struct crowd *crowd)
{
    int64_t now_us = clock_wall_us();

    for (size_t i = 0; i < crowd->len; i++)
        for (size_t topic = 0; topic < crowd->topics; topic++) {
            int64_t sent_us = crowd->clients[i].newest[topic];

            if (sent_us > 0 && crowd->newest_max_us < now_us - sent_us)
                crowd->newest_max_us = now_us - sent_us;
        }
}

/* Message i is on topic i % topics. */
static size_t count_watched(const struct crowd *crowd, size_t client)
{
    size_t count = 0;

    for (size_t topic = 0; topic < crowd->topics; topic++)
        if (watches(crowd, client, topic))
            count += crowd->count / crowd->topics + (topic < crowd->count % crowd->topics);
    return count;
}

static void report(struct crowd *crowd)
{
    size_t complete = 0;

    for (size_t i = 0; crowd->count > 0 && i < crowd->len; i++)
        complete += crowd->clients[i].seen_len == count_watched(crowd, i);
    look_at_ages(crowd);
    printf("{\"connected\": %zu, \"updates\": %zu, \"documents\": %zu, \"complete\": %zu, "
           "\"newest_ms\": %lld, \"arrival_ms\": %.1f, \"arrival_max_ms\": %lld}\n",
           crowd->connected, crowd->updates, crowd->documents, complete,
           (long long)(crowd->newest_max_us / 1000),
           crowd->arrivals > 0 ? (double)crowd->arrival_sum_us / (double)crowd->arrivals / 1e3 : 0,
           (long long)(crowd->arrival_max_us / 1000));
    fflush(stdout);
    crowd->newest_max_us = crowd->arrival_max_us = crowd->arrival_sum_us = 0;
    crowd->arrivals = 0;
}

/* False at the end of standard input. */
static bool read_command(struct crowd *crowd)
{
    char byte;
    ssize_t got = read(STDIN_FILENO, &byte, 1);

    if (got <= 0 || byte == '\n')
        report(crowd);
    return got > 0;
}

/* False at the end of standard input. */
static bool step(struct crowd *crowd)
{
    struct epoll_event events[EVENTS_MAX];
    int len = epoll_wait(crowd->epoll, events, EVENTS_MAX, LOOK_MS);
    bool goes_on = true;

    for (int i = 0; i < len; i++)
        if (events[i].data.u64 == CLIENTS_MAX)
            goes_on = read_command(crowd);
        else
            read_client(crowd, &crowd->clients[events[i].data.u64]);
    if (clock_monotonic_ms() - crowd->looked_ms >= LOOK_MS) {
        look_at_ages(crowd);
        crowd->looked_ms = clock_monotonic_ms();
    }
    return goes_on;
}

static void open_crowd(struct crowd *crowd, int port)
{
    struct rlimit files = {.rlim_cur = CLIENTS_MAX + 100, .rlim_max = CLIENTS_MAX + 100};
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = CLIENTS_MAX};

    (void)setrlimit(RLIMIT_NOFILE, &files);
    crowd->epoll = epoll_create1(0);
    crowd->clients = xcalloc(crowd->len, sizeof(*crowd->clients));
    for (size_t i = 0; i < crowd->len; i++)
        subscribe(crowd, i, port);
    while (crowd->subscribed < crowd->len && crowd->connected == crowd->len)
        (void)step(crowd);
    if (crowd->connected < crowd->len)
        die("the hub ended a connection");
    if (epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die("epoll_ctl");
    printf("ready\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct crowd crowd;

    if (argc < 6) {
        fprintf(stderr, "usage: sse_clients PORT CLIENTS TOPICS WATCHED COUNT [TOPIC]\n");
        return 2;
    }
    crowd.len = strtoul(argv[2], NULL, 10);
    crowd.topics = strtoul(argv[3], NULL, 10);
    crowd.watched = strtoul(argv[4], NULL, 10);
    crowd.count = strtoul(argv[5], NULL, 10);
    crowd.topic = argc > 6 ? argv[6] : NULL;
    if (crowd.len == 0 || crowd.len > CLIENTS_MAX || crowd.topics == 0 || crowd.watched == 0 ||
        crowd.watched > crowd.topics) {
        fprintf(stderr, "sse_clients: 1 to %d clients, and no more topics watched than there are\n",
                CLIENTS_MAX);
        return 2;
    }
    open_crowd(&crowd, atoi(argv[1]));
    while (step(&crowd))
        continue;
    return 0;
}
