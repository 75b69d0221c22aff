/* A device that publishes as fast as the broker takes it: QoS 1, MQTT 3.1.1, on a bare socket, so that
 * its own cost stays small beside what is measured.
 *
 *     build/tests/bench/publish PORT COUNT [TOPICS]       1000 topics; to 127.0.0.1
 *
 * Payloads are JSON of 100 bytes. Ends when the broker has acknowledged every message. */
#include "common/base/buf.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD_SIZE   100
#define WRITE_MESSAGES 128  /* in one write */
#define WINDOW         1024 /* unacknowledged; small enough that neither side's socket fills up */
#define ACK_SIZE       4    /* CONNACK and PUBACK alike (MQTT 3.1.1, sections 3.2 and 3.4) */

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

static void say_hello(int fd)
{
    static const char CONNECT[] = "\x10\x11\0\4MQTT\4\2\0\x3c\0\5bench";

    write_all(fd, (struct bytes){CONNECT, sizeof(CONNECT) - 1});
    if (read_acks(fd) != 1)
        die("CONNACK");
}

static void append_publish(struct buf *out, size_t number, size_t topics)
{
    char topic[40], payload[PAYLOAD_SIZE + 1];
    size_t room = number % topics;
    size_t topic_len = (size_t)snprintf(topic, sizeof(topic), "bench/room%zu/climate", room);
    int filled =
        snprintf(payload, sizeof(payload),
                 "{\"temperature\":21.5,\"humidity\":48,\"sequence\":%zu,\"note\":\"", number);
    size_t remaining = 2 + topic_len + 2 + PAYLOAD_SIZE;

    memset(payload + filled, 'x', (size_t)(PAYLOAD_SIZE - filled));
    memcpy(payload + PAYLOAD_SIZE - 2, "\"}", 2);
    buf_append_char(out, 0x32);
    buf_append_char(out, (char)(remaining % 128 | 128));
    buf_append_char(out, (char)(remaining / 128));
    append_u16(out, topic_len);
    buf_append(out, (struct bytes){topic, topic_len});
    append_u16(out, 1 + number % 65535);
    buf_append(out, (struct bytes){payload, PAYLOAD_SIZE});
}

int main(int argc, char **argv)
{
    size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    size_t topics = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
    size_t sent = 0, acknowledged = 0;
    struct buf out = {0};

    if (count == 0 || topics == 0) {
        fprintf(stderr, "usage: publish PORT COUNT [TOPICS]\n");
        return 2;
    }
    int fd = connect_to(atoi(argv[1]));
    say_hello(fd);
    while (acknowledged < count) {
        buf_clear(&out);
        for (int i = 0; i < WRITE_MESSAGES && sent < count && sent - acknowledged < WINDOW; i++)
            append_publish(&out, sent++, topics);
        write_all(fd, buf_bytes(&out));
        if (sent == count || sent - acknowledged == WINDOW)
            acknowledged += read_acks(fd);
    }
    buf_free(&out);
    close(fd);
    return 0;
}
