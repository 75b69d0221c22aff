/* mqtt-bridge-monitor: asks the servers how they are, and tells whoever asks over HTTP.
 *
 * Each question to the servers is a blocking call, made beside main's loop, which waits for signals and
 * beats meanwhile; the HTTP server has a thread of its own and answers from the statistics. The bridge
 * works without this program. */
#include "common/base/child.h"
#include "common/base/clock.h"
#include "common/base/offload.h"
#include "monitor/http.h"
#include "monitor/probe.h"

#include <poll.h>
#include <stdlib.h>

/* Each part has limits of its own, far below this: a question that takes so long hangs, and so do we. */
#define QUESTION_MOST_MS 60000

struct question {
    struct probe *probe;
    struct offload *call; /* NULL: none is under way */
    int64_t asked_ms;
    int64_t due_ms; /* when the next is to be asked; written by the call */
};

static void ask(void *data)
{
    struct question *question = data;

    question->due_ms = probe_step(question->probe);
}

static void keep(void *data)
{
    (void)data; /* it is run's, which waits for the call */
}

static void ask_if_due(struct question *question)
{
    int64_t now = clock_monotonic_ms();

    if (question->call != NULL || now < question->due_ms)
        return;
    question->asked_ms = now;
    question->call = offload_start(ask, keep, question);
    if (question->call == NULL)
        ask(question); /* no thread to be had: the beat waits this once */
}

static void take_answer(struct question *question)
{
    if (question->call == NULL || !offload_is_done(question->call))
        return;
    offload_free(question->call);
    question->call = NULL;
}

/* Until a signal, the answer, the next question or the next beat. */
static enum child_signal wait_for_signal(struct child *child, const struct question *question)
{
    int64_t now = clock_monotonic_ms();
    int64_t wake_ms = now + child->settings->supervisor.hang_timeout_ms / 4;
    struct pollfd fds[] = {{.fd = child->signal_fd, .events = POLLIN},
                           {.fd = -1, .events = POLLIN}};

    if (question->call != NULL)
        fds[1].fd = offload_fd(question->call);
    else if (question->due_ms < wake_ms)
        wake_ms = question->due_ms;
    if (poll(fds, 2, clock_poll_timeout(wake_ms, now)) <= 0 || fds[0].revents == 0)
        return CHILD_NONE;
    return child_read_signal(child);
}

static bool hangs(const struct question *question)
{
    return question->call != NULL && clock_monotonic_ms() - question->asked_ms > QUESTION_MOST_MS;
}

static void run(struct child *child, struct probe *probe)
{
    struct question question = {.probe = probe};

    do {
        if (!hangs(&question))
            stats_beat(child->slot);
        take_answer(&question);
        ask_if_due(&question);
    } while (wait_for_signal(child, &question) == CHILD_NONE);

    /* The call has the probe and the settings in hand. */
    while (question.call != NULL) {
        struct pollfd answer = {.fd = offload_fd(question.call), .events = POLLIN};
        poll(&answer, 1, -1);
        take_answer(&question);
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
         http_start(&http, child.settings, child.stats, &err) < 0))
        child_give_up(&child, &err);
    stats_set(child.slot, STATS_CONNECTED, 1);
    child_ready(&child);
    run(&child, probe);

    http_stop(http);
    probe_free(probe);
    child_end(&child);
    return CHILD_EXIT_DONE;
}
