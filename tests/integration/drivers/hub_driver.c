/* Drives client/hub: URL SECRET TOKEN CONNECTIONS TIMEOUT_MS ("-" for no secret, no token).
 *
 *     send ID FORM                  "<outcome> <status> <text>"
 *     burst COUNT TOPICS            COUNT updates, CONNECTIONS at once, each topic in its order; answers
 *                                   "burst <done> <others> <µs>"
 *     once ID FORM                  hub_publish_once: "<result> <outcome> <status> <text>" */
#include "common/base/clock.h"
#include "common/client/hub.h"
#include "common/wire/update.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver {
    struct hub *hub;
    const struct settings_mercure *settings;
    long burst_left;
    long topics;
    long *sent; /* a counter for each topic */
    long done;
    long others;
    bool bursting;
};

/* lane: which of those that are in flight at once; it has topics of its own, which take turns. */
static void send_next(struct driver *driver, intptr_t lane)
{
    char id[64], topic[64], data[64];
    long count = driver->settings->connections;
    long topic_number = lane;
    size_t slot = hub_idle_slot(driver->hub);

    if (driver->burst_left == 0)
        return;
    driver->burst_left--;
    topic_number += count * (driver->burst_left % (driver->topics / count));
    snprintf(topic, sizeof(topic), "burst/%ld", topic_number);
    snprintf(data, sizeof(data), "%ld", driver->sent[topic_number]);
    snprintf(id, sizeof(id), "urn:burst:%ld:%ld", topic_number, driver->sent[topic_number]++);
    const struct update update = {
        .topic = bytes_of(topic), .data = bytes_of(data), .id = bytes_of(id)};
    update_form(hub_form(driver->hub, slot), &update);
    hub_send(driver->hub, slot, bytes_of(id), driver->settings->timeout_ms, (void *)lane);
}

static void answered(void *context, void *owner, const struct hub_result *result)
{
    struct driver *driver = context;

    if (!driver->bursting) {
        printf("%d %ld %s\n", (int)result->answer.outcome, result->status, result->text);
        fflush(stdout);
        return;
    }
    if (result->answer.outcome == HUB_PASSED)
        driver->done++;
    else
        driver->others++;
    send_next(driver, (intptr_t)owner);
}

static void drive(struct driver *driver)
{
    while (hub_busy(driver->hub) > 0) {
        hub_process(driver->hub);
        if (hub_busy(driver->hub) > 0)
            hub_poll(driver->hub, NULL, 0, 1000);
    }
}

static void burst(struct driver *driver, char *arguments)
{
    char *save;
    int64_t began = clock_monotonic_us();

    driver->burst_left = strtol(strtok_r(arguments, " ", &save), NULL, 10);
    driver->topics = strtol(strtok_r(NULL, " ", &save), NULL, 10);
    driver->sent = calloc((size_t)driver->topics, sizeof(*driver->sent));
    driver->done = driver->others = 0;
    driver->bursting = true;
    for (intptr_t i = 0; i < driver->settings->connections; i++)
        send_next(driver, i);
    drive(driver);
    driver->bursting = false;
    free(driver->sent);
    printf("burst %ld %ld %lld\n", driver->done, driver->others,
           (long long)(clock_monotonic_us() - began));
    fflush(stdout);
}

static void send_one(struct driver *driver, char *arguments)
{
    char *save;
    const char *id = strtok_r(arguments, " ", &save);
    const char *form = strtok_r(NULL, " ", &save);
    size_t slot = hub_idle_slot(driver->hub);

    buf_append_text(hub_form(driver->hub, slot), form);
    hub_send(driver->hub, slot, bytes_of(id), driver->settings->timeout_ms, NULL);
    drive(driver);
}

static void once(const struct settings_mercure *settings, char *arguments)
{
    char *save;
    const char *id = strtok_r(arguments, " ", &save);
    const char *form = strtok_r(NULL, " ", &save);
    struct hub_result result = {0};
    struct error err = {0};
    int status = hub_publish_once(settings, bytes_of(form), bytes_of(id), 2000, &result, &err);

    printf("%d %d %ld %s\n", status, (int)result.answer.outcome, result.status,
           status < 0 ? err.text : result.text);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t size = 0;
    struct driver driver = {0};
    struct error err = {0};

    if (argc != 6)
        return 2;
    const struct settings_mercure settings = {
        .url = argv[1],
        .jwt_secret = strcmp(argv[2], "-") != 0 ? argv[2] : "",
        .jwt = strcmp(argv[3], "-") != 0 ? argv[3] : "",
        .jwt_algorithm = JWT_HS256,
        .jwt_key_file = "",
        .ca_file = "",
        .connections = strtol(argv[4], NULL, 10),
        .connect_timeout_ms = 2000,
        .timeout_ms = strtol(argv[5], NULL, 10),
    };
    driver.settings = &settings;
    if (hub_new(&driver.hub, &settings, answered, &driver, &err) < 0) {
        printf("%d %s\n", -(int)err.code, err.text);
        return 0;
    }
    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "burst ", 6) == 0)
            burst(&driver, line + 6);
        else if (strncmp(line, "once ", 5) == 0)
            once(&settings, line + 5);
        else
            send_one(&driver, line + strlen("send "));
    }
    free(line);
    hub_free(driver.hub);
    return 0;
}
