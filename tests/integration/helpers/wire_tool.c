/* The wire codecs for tests in other languages. Each line of standard input is a command, each line of standard output
 * an answer. All bytes are in hexadecimal ("-" for none).
 *
 *     encode php|json public|protected|private METADATA(0|1) TOPIC PAYLOAD   VALUE
 *     decode VALUE                     php|json TOPIC PAYLOAD CLASS RETRY-COUNT MQTT-ID
 *     stamp VALUE RETRY-COUNT RECEIVER EXCEPTION-CLASS MESSAGE STREAM-ID     VALUE
 *     undecodable php|json VALUE       VALUE
 *     redriven VALUE                   VALUE: the failed message 7, for its stream
 *
 * An answer "error TEXT" instead where the codec refuses. */
#include "common/wire/stamp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 8
#define NOW_US    INT64_C(1795514400123456)

static struct arena arena;

static struct bytes word_bytes(const char *hex)
{
    struct buf out = {0};
    unsigned byte;

    for (; strcmp(hex, "-") != 0 && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        buf_append_char(&out, (char)byte);
    struct bytes bytes = arena_copy(&arena, buf_bytes(&out));
    buf_free(&out);
    return bytes;
}

static void print_bytes(struct bytes bytes, char behind)
{
    for (size_t i = 0; i < bytes.len; i++)
        printf("%02x", (unsigned char)bytes.data[i]);
    if (bytes.len == 0)
        putchar('-');
    putchar(behind);
}

static struct envelope_format format_of(const char *serializer, const char *visibility)
{
    struct envelope_format format = {
        .serializer = strcmp(serializer, "json") == 0 ? ENVELOPE_JSON : ENVELOPE_PHP,
        .visibility = ENVELOPE_PUBLIC,
        .message_class = BYTES("App\\Message\\MqttMessage"),
        .bus = BYTES("messenger.bus.default"),
        .redis_serialized = true,
    };

    if (strcmp(visibility, "protected") == 0)
        format.visibility = ENVELOPE_PROTECTED;
    else if (strcmp(visibility, "private") == 0)
        format.visibility = ENVELOPE_PRIVATE;
    return format;
}

/* The stream entry of a body and a headers text. */
static void print_joined(struct bytes body, struct bytes headers)
{
    struct buf value = {0};
    struct error err;

    if (envelope_join(&value, body, headers, true, &err) < 0)
        printf("error %s\n", err.text);
    else
        print_bytes(buf_bytes(&value), '\n');
    buf_free(&value);
}

static void encode(char **word)
{
    struct envelope_format format = format_of(word[1], word[2]);
    struct envelope_message message = {
        .topic = word_bytes(word[4]),
        .payload = word_bytes(word[5]),
        .id = BYTES("00ff-1"),
        .received_us = NOW_US,
        .qos = 1,
    };
    struct envelope_template *template;
    struct buf value = {0};

    format.metadata_headers = strcmp(word[3], "1") == 0;
    template = envelope_template_new(&format);
    envelope_encode(template, &message, SIZE_MAX, &value);
    print_bytes(buf_bytes(&value), '\n');
    envelope_template_free(template);
    buf_free(&value);
}

static void decode(char **word)
{
    struct envelope envelope;
    struct error err;

    if (envelope_decode(&envelope, word_bytes(word[1]), &arena, &err) < 0) {
        printf("error %s\n", err.text);
        return;
    }
    printf("%s ", envelope.serializer == ENVELOPE_PHP ? "php" : "json");
    print_bytes(envelope.topic, ' ');
    print_bytes(envelope.payload, ' ');
    print_bytes(envelope.message_class, ' ');
    printf("%lld ", (long long)envelope.retry_count);
    print_bytes(envelope.mqtt_id, '\n');
}

static void stamp(char **word)
{
    struct stamp_failure failure = {
        .retry_count = strtoll(word[2], NULL, 10),
        .receiver = word_bytes(word[3]),
        .exception_class = word_bytes(word[4]),
        .exception_message = word_bytes(word[5]),
        .stream_id = word_bytes(word[6]),
        .delay_ms = 1000,
        .now_us = NOW_US,
    };
    struct envelope envelope;
    struct buf body = {0};
    struct buf headers = {0};
    struct error err;

    if (envelope_decode(&envelope, word_bytes(word[1]), &arena, &err) < 0 ||
        stamp_failure(&body, &headers, &envelope, &failure, &err) < 0)
        printf("error %s\n", err.text);
    else
        print_joined(buf_bytes(&body), buf_bytes(&headers));
    buf_free(&body);
    buf_free(&headers);
}

static void undecodable(char **word)
{
    struct envelope_format format = format_of(word[1], "public");
    struct stamp_failure failure = {
        .exception_class = BYTES("RuntimeException"),
        .exception_message = BYTES("no envelope"),
        .receiver = BYTES("async"),
        .now_us = NOW_US,
    };
    struct buf body = {0};
    struct buf headers = {0};

    stamp_undecodable(&body, &headers, &format, word_bytes(word[2]), &failure);
    print_joined(buf_bytes(&body), buf_bytes(&headers));
    buf_free(&body);
    buf_free(&headers);
}

static void redriven(char **word)
{
    struct envelope envelope;
    struct buf body = {0};
    struct buf headers = {0};
    struct error err;

    if (envelope_decode(&envelope, word_bytes(word[1]), &arena, &err) < 0 ||
        stamp_redriven(&body, &headers, &envelope, BYTES("7"), NOW_US, &err) < 0)
        printf("error %s\n", err.text);
    else
        print_joined(buf_bytes(&body), buf_bytes(&headers));
    buf_free(&body);
    buf_free(&headers);
}

int main(void)
{
    static const struct {
        const char *name;
        int words;
        void (*run)(char **word);
    } commands[] = {
        {"encode", 6, encode},           {"decode", 2, decode},     {"stamp", 7, stamp},
        {"undecodable", 3, undecodable}, {"redriven", 2, redriven},
    };
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, stdin) > 0) {
        char *word[WORDS_MAX] = {NULL};
        char *rest = line;
        int words = 0;

        while (words < WORDS_MAX && (word[words] = strsep(&rest, " \n")) != NULL)
            words++;
        for (size_t i = 0; i < LENGTH_OF(commands); i++)
            if (strcmp(word[0], commands[i].name) == 0 && words > commands[i].words)
                commands[i].run(word);
        fflush(stdout);
        arena_clear(&arena);
    }
    arena_free(&arena);
    free(line);
    return 0;
}
