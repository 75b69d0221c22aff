/* mqtt-bridge-monitor: asks the servers how they are, and tells whoever asks over HTTP.
 *
 * Main asks, with plain blocking calls; the HTTP server has a thread of its own and answers from the
 * statistics. The bridge works without this program. */
#include "common/base/child.h"
#include "common/base/clock.h"
#include "monitor/http.h"
#include "monitor/probe.h"

#include <poll.h>
#include <stdlib.h>

static enum child_signal wait_for_signal(struct child *child, int64_t deadline_ms)
{
    struct pollfd signals = {.fd = child->signal_fd, .events = POLLIN};

    if (poll(&signals, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms())) <= 0)
        return CHILD_NONE;
    return child_read_signal(child);
}

static void run(struct child *child, struct probe *probe)
{
    int64_t due_ms = clock_monotonic_ms();

    while (wait_for_signal(child, due_ms) == CHILD_NONE) {
        stats_beat(child->slot);
        if (clock_monotonic_ms() >= due_ms)
            due_ms = probe_step(probe);
    }
}

int main(int argc, char **argv)
{
    struct child child;
    struct probe *probe = NULL;
    struct http *http = NULL;
    struct error err = {0};

    child_start(&child, argc, argv, "mqtt-bridge-monitor",
                "watches the servers and answers over HTTP");
    if (probe_new(&probe, child.settings, child.stats, &err) < 0 ||
        (child.settings->http.listen[0] != '\0' &&
         http_start(&http, child.settings, child.stats, probe, &err) < 0))
        child_give_up(&child, &err);
    stats_set(child.slot, STATS_CONNECTED, 1);
    child_ready(&child);
    run(&child, probe);

    http_stop(http);
    probe_free(probe);
    child_end(&child);
    return CHILD_EXIT_DONE;
}
