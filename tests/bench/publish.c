/* A device that publishes at a rate, or as fast as the broker takes it. It speaks MQTT 3.1.1 on a bare socket, so that
 * the device costs little beside what is measured.
 *
 *     build/tests/bench/publish PORT COUNT [TOPICS [RATE [QOS [SIZE]]]]
 *
 * To 127.0.0.1. 1000 topics, rate 0: no limit, QoS 1. Payloads are JSON of SIZE bytes (100; 0: as short as they are).
 * They have a number from 0 on and the time of sending in unix us. Ends when the broker has acknowledged every message;
 * at QoS 0, when it has read them. Prints the seconds that it took. */
#include "common/base/buf.h"
#include "common/base/clock.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD_MAX    120
#define WRITE_MESSAGES 128  /* in one write */
#define WINDOW         1024 /* unacknowledged; small enough that neither side's socket fills up */
#define ACK_SIZE       4    /* CONNACK and PUBACK alike (MQTT 3.1.1, sections 3.2 and 3.4) */
#define PACE_US        5000 /* with a rate: what is due is sent so often */

struct device {
    int fd;
    size_t count;
    size_t topics;
    size_t rate; /* messages a second; 0: no limit */
    bool qos_1;
    size_t size; /* of a payload, at least */
    size_t sent;
    size_t acknowledged; /* QoS 0: always as many as sent */
    int64_t started_us;
    struct buf topic, payload; /* of the message that is written */
};

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "publish: ");
    perror(text);
    exit(1);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        die("connect");
    return fd;
}

static void write_all(int fd, struct bytes data)
{
    while (data.len > 0) {
        ssize_t written = write(fd, data.data, data.len);

        if (written <= 0)
            die("write");
        data = bytes_slice(data, (size_t)written, data.len);
    }
}

/* How many acknowledgements have come; waits for one. */
static size_t read_acks(int fd)
{
    static size_t pending; /* bytes of one that is not whole yet */
    char buffer[4096];
    ssize_t got = read(fd, buffer, sizeof(buffer));

    if (got <= 0)
        die("the broker ended the connection");
    pending += (size_t)got;
    size_t whole = pending / ACK_SIZE;
    pending %= ACK_SIZE;
    return whole;
}

static void append_u16(struct buf *out, size_t value)
{
    buf_append_char(out, (char)(value >> 8));
    buf_append_char(out, (char)value);
}

static void send_connect(int fd)
{
    static const char CONNECT[] = "\x10\x11\0\4MQTT\4\2\0\x3c\0\5bench";

    write_all(fd, (struct bytes){CONNECT, sizeof(CONNECT) - 1});
    if (read_acks(fd) != 1)
        die("CONNACK");
}

static void append_length(struct buf *out, size_t length)
{
    if (length >= 128) {
        buf_append_char(out, (char)(length % 128 | 128));
        length /= 128;
    }
    buf_append_char(out, (char)length);
}

/* Without printf, which would cost more than all the rest. */
static void append_payload(struct buf *out, const struct device *device, int64_t now_us)
{
    static const char NOTE[] = ",\"note\":\"";
    size_t begin = out->len;

    buf_append(out, BYTES("{\"temp\":21.5,\"sequence\":"));
    buf_append_u64(out, device->sent);
    buf_append(out, BYTES(",\"at\":"));
    buf_append_u64(out, (uint64_t)now_us);
    if (out->len - begin + sizeof(NOTE) + 1 <= device->size) {
        buf_append_text(out, NOTE);
        while (out->len - begin < device->size - 2)
            buf_append_char(out, 'x');
        buf_append_char(out, '"');
    }
    buf_append_char(out, '}');
}

static void append_topic(struct buf *out, size_t number)
{
    buf_append(out, BYTES("bench/room"));
    buf_append_u64(out, number);
    buf_append(out, BYTES("/climate"));
}

static void append_publish(struct buf *out, struct device *device, int64_t now_us)
{
    struct buf *topic = &device->topic, *payload = &device->payload;

    buf_clear(topic);
    append_topic(topic, device->sent % device->topics);
    buf_clear(payload);
    append_payload(payload, device, now_us);
    buf_append_char(out, device->qos_1 ? 0x32 : 0x30);
    append_length(out, 2 + topic->len + (device->qos_1 ? 2 : 0) + payload->len);
    append_u16(out, topic->len);
    buf_append(out, buf_bytes(topic));
    if (device->qos_1)
        append_u16(out, 1 + device->sent % 65535);
    buf_append(out, buf_bytes(payload));
}

/* How many may have been sent by now. */
static size_t due(const struct device *device)
{
    if (device->rate == 0)
        return device->count;
    int64_t passed_us = clock_monotonic_us() - device->started_us;
    size_t allowed = (size_t)((double)passed_us * (double)device->rate / 1e6);
    return allowed < device->count ? allowed : device->count;
}

/* Sends what is due and fits. True if the window is full, or all is sent. */
static bool send_some(struct device *device, struct buf *out)
{
    size_t until = due(device);
    int64_t now_us = clock_wall_us();

    buf_clear(out);
    for (int i = 0;
         i < WRITE_MESSAGES && device->sent < until && device->sent - device->acknowledged < WINDOW;
         i++) {
        append_publish(out, device, now_us);
        device->sent++;
        device->acknowledged += !device->qos_1;
    }
    write_all(device->fd, buf_bytes(out));
    if (device->sent == until && until < device->count)
        usleep(PACE_US);
    return device->sent == device->count || device->sent - device->acknowledged == WINDOW;
}

/* What was sent before it has been read when it is answered. */
static void ping(int fd)
{
    char answer[2];

    write_all(fd, (struct bytes){"\xc0\0", 2});
    for (size_t got = 0; got < sizeof(answer);) {
        ssize_t len = read(fd, answer + got, sizeof(answer) - got);

        if (len <= 0)
            die("the broker ended the connection");
        got += (size_t)len;
    }
}

static size_t argument(int argc, char **argv, int index, size_t without)
{
    return argc > index ? strtoul(argv[index], NULL, 10) : without;
}

int main(int argc, char **argv)
{
    struct device device = {.count = argument(argc, argv, 2, 0),
                            .topics = argument(argc, argv, 3, 1000),
                            .rate = argument(argc, argv, 4, 0),
                            .qos_1 = argument(argc, argv, 5, 1) == 1,
                            .size = argument(argc, argv, 6, 100)};
    struct buf out = {0};

    if (device.count == 0 || device.topics == 0 || device.size > PAYLOAD_MAX) {
        fprintf(stderr, "usage: publish PORT COUNT [TOPICS [RATE [QOS [SIZE]]]]\n");
        return 2;
    }
    device.fd = connect_to(atoi(argv[1]));
    send_connect(device.fd);
    device.started_us = clock_monotonic_us();
    while (device.sent < device.count || device.acknowledged < device.count)
        if (send_some(&device, &out) && device.qos_1)
            device.acknowledged += read_acks(device.fd);
    if (!device.qos_1)
        ping(device.fd);
    printf("%.3f\n", (double)(clock_monotonic_us() - device.started_us) / 1e6);
    buf_free(&device.topic);
    buf_free(&device.payload);
    buf_free(&out);
    close(device.fd);
    return 0;
}
