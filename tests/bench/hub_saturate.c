/* What the hub takes at most. Updates of the worker's kind come from a fixed number of kept-alive connections. Each
 * sends the next when the last is answered, with nothing behind them.
 *
 *     build/tests/bench/hub_saturate URL TOKEN COUNT [CONNECTIONS]       16
 *
 * Prints {"messages": …, "seconds": …} between the first answer and the last, then waits to be ended, so
 * that its CPU time can be read. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/wire/update.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define FORMS           1000 /* as many topics as the worker's stream has */
#define ID              "0123456789abcdef0123456789abcdef-"
#define PAYLOAD                                                                                    \
    "{\"temperature\":21.5,\"humidity\":48,\"sequence\":%06zu,"                                    \
    "\"note\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}"

struct saturation {
    CURLM *multi;
    size_t wanted;
    size_t sent;
    size_t answered;
    int64_t first_us;
    int64_t last_us;
    struct buf forms[FORMS];
    size_t connections;
};

static _Noreturn void die(const char *text)
{
    fprintf(stderr, "hub_saturate: %s\n", text);
    exit(1);
}

static size_t drop_body(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

/* Made once: what is measured is the hub. */
static void make_form(struct buf *form, size_t number)
{
    char payload[160], topic[64], id[80], urn[100];
    struct buf document = {0};
    struct update update = {0};

    snprintf(payload, sizeof(payload), PAYLOAD, number);
    snprintf(topic, sizeof(topic), "bench/room%03zu/climate", number);
    snprintf(id, sizeof(id), ID "%06zu", number);
    snprintf(urn, sizeof(urn), "urn:mqtt-bridge:%s", id);
    update_document(&document, bytes_of(id), bytes_of(topic), bytes_of(payload), clock_wall_us());
    update.topic = bytes_of(topic);
    update.data = buf_bytes(&document);
    update.id = bytes_of(urn);
    update_form(form, &update);
    buf_free(&document);
}

static void send_next(struct saturation *saturation, CURL *easy)
{
    const struct buf *form = &saturation->forms[saturation->sent++ % FORMS];

    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)form->len);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, form->data);
    curl_multi_add_handle(saturation->multi, easy);
}

static void open_connections(struct saturation *saturation, const char *url, const char *token)
{
    struct curl_slist *headers;
    struct buf line = {0};

    buf_append_text(&line, "Authorization: Bearer ");
    buf_append_text(&line, token);
    buf_append_char(&line, '\0');
    headers = curl_slist_append(NULL, line.data);
    headers = curl_slist_append(headers, "Expect:");
    saturation->multi = curl_multi_init();
    curl_multi_setopt(saturation->multi, CURLMOPT_MAXCONNECTS, (long)saturation->connections + 2);
    curl_multi_setopt(saturation->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    for (size_t i = 0; i < saturation->connections; i++) {
        CURL *easy = curl_easy_init();

        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_body);
        send_next(saturation, easy);
    }
    buf_free(&line);
}

/* Sends the next wherever an answer has come; false if none had. */
static bool take_answers(struct saturation *saturation)
{
    size_t before = saturation->answered;
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(saturation->multi, &left)) != NULL) {
        CURL *easy = message->easy_handle;
        long status = 0;

        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200)
            die("the hub does not take it");
        saturation->last_us = clock_monotonic_us();
        if (saturation->answered++ == 0)
            saturation->first_us = saturation->last_us;
        curl_multi_remove_handle(saturation->multi, easy);
        if (saturation->sent < saturation->wanted)
            send_next(saturation, easy);
    }
    return saturation->answered > before;
}

int main(int argc, char **argv)
{
    static struct saturation saturation;

    if (argc < 4) {
        fprintf(stderr, "usage: hub_saturate URL TOKEN COUNT [CONNECTIONS]\n");
        return 2;
    }
    saturation.wanted = strtoul(argv[3], NULL, 10);
    saturation.connections = argc > 4 ? strtoul(argv[4], NULL, 10) : 16;
    if (saturation.connections == 0 || saturation.connections > CONNECTIONS_MAX ||
        saturation.wanted < saturation.connections)
        die("1 to 256 connections, and at least one message for each");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    for (size_t i = 0; i < FORMS; i++)
        make_form(&saturation.forms[i], i);
    open_connections(&saturation, argv[1], argv[2]);
    while (saturation.answered < saturation.wanted) {
        int running;

        curl_multi_perform(saturation.multi, &running);
        if (!take_answers(&saturation))
            curl_multi_poll(saturation.multi, NULL, 0, 1000, NULL);
    }
    printf("{\"messages\": %zu, \"seconds\": %.6f}\n", saturation.answered - 1,
           (double)(saturation.last_us - saturation.first_us) / 1e6);
    fflush(stdout);
    pause();
    return 0;
}
