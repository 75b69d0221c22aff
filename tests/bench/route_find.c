/* What routes cost, with no, 1, 100 and 10,000 of them. Measured is the time to find the route of a topic and make its
 * update. Also the time to read routes from the ini, to pass them to a worker, and to make them ready there.
 *
 *     build/tests/bench/route_find [MESSAGES]       300000
 */
#include "common/base/clock.h"
#include "common/settings/routes.h"

#include <stdio.h>
#include <stdlib.h>

#define TOPICS 1000

/* Half of the topics are taken by a route, the last ones for the most part. */
static struct settings *settings_with(int count)
{
    struct settings *settings;
    struct buf ini = {0}, faults = {0};

    for (int i = 0; i < count; i++)
        buf_printf(&ini, "[route:r%d]\nmatch = plant/%d/+/temp, site%d/#\ntopic = temps/{1}\n", i,
                   i, i);
    if (settings_load_text(&settings, "bench.ini", buf_bytes(&ini), false, &faults) < 0) {
        fprintf(stderr, "route_find: %s", buf_text(&faults));
        exit(1);
    }
    buf_free(&ini);
    return settings;
}

static double update_ns(struct routes *routes, int count, int messages)
{
    char topics[TOPICS][64];
    struct update update;
    struct error err;

    for (int i = 0; i < TOPICS; i++)
        snprintf(topics[i], sizeof(topics[i]),
                 i % 2 == 0 ? "plant/%d/press/temp" : "other/%d/press/temp",
                 count > 0 ? count - 1 - i % count : i);
    int64_t started = clock_monotonic_us();
    for (int i = 0; i < messages; i++) {
        const struct routes_message message = {.identity =
                                                   BYTES("0123456789abcdef0123456789abcdef-1"),
                                               .topic = bytes_of(topics[i % TOPICS]),
                                               .payload = BYTES("{\"temp\":21.5,\"humidity\":40}")};

        if (routes_update(routes, &message, &update, &err) != ROUTES_PUBLISH)
            exit(1);
    }
    return 1000.0 * (double)(clock_monotonic_us() - started) / messages;
}

/* In a worker's place: reads the settings that the supervisor has packed. */
static struct routes *start_worker(const struct settings *settings, struct settings **unpacked)
{
    struct buf packed = {0};
    struct error err;

    settings_pack(settings, "worker", &packed);
    if (settings_unpack(unpacked, buf_bytes(&packed), &err) < 0) {
        fprintf(stderr, "route_find: %s\n", err.text);
        exit(1);
    }
    buf_free(&packed);
    return routes_new(*unpacked);
}

int main(int argc, char **argv)
{
    static const int counts[] = {0, 1, 100, 10000};
    int messages = argc > 1 ? atoi(argv[1]) : 300000;

    if (messages <= 0)
        return 2;
    for (size_t i = 0; i < LENGTH_OF(counts); i++) {
        struct settings *unpacked;
        int64_t started = clock_monotonic_us();
        struct settings *settings = settings_with(counts[i]);
        int64_t loaded = clock_monotonic_us();
        struct routes *routes = start_worker(settings, &unpacked);
        int64_t ready = clock_monotonic_us();

        printf("%5d routes: %6.0f ns a message, %7.1f ms to load, %7.1f ms in each worker\n",
               counts[i], update_ns(routes, counts[i], messages), (double)(loaded - started) / 1000,
               (double)(ready - loaded) / 1000);
        routes_free(routes);
        settings_free(unpacked);
        settings_free(settings);
    }
    return 0;
}
