/* mqtt-bridge-monitor: probes the servers, and answers over HTTP.
 *
 * Each probe is a blocking call in a thread beside main's loop, which waits for signals, answers from the
 * statistics and beats meanwhile. The bridge works without the monitor, and the monitor without a page: where it
 * can't listen it says why, and tries again. */
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/offload.h"
#include "common/runtime/child.h"
#include "monitor/http.h"
#include "monitor/probe.h"

#include <poll.h>
#include <stdlib.h>

/* Each probe has time-outs far below this. One that takes longer hangs: the monitor stops beating. */
#define QUESTION_MOST_MS 60000

#define LISTEN_AGAIN_MS 5000

struct page {
    struct http *http; /* NULL: does not listen */
    int64_t try_ms;    /* when to try */
    struct log_fault fault;
};

struct question {
    struct probe *probe;
    struct offload *call; /* NULL: none is under way */
    int64_t asked_ms;
    int64_t due_ms; /* when the next is to be asked; written by the call */
};

/* The port may be another's for now, the token's file replaced at this moment. Who runs the monitor by itself is
 * told at once. */
static void listen_if_due(struct page *page, struct child *child)
{
    int64_t now = clock_monotonic_ms();
    struct error err = {0};

    if (page->http != NULL || child->settings->http.listen[0] == '\0' || now < page->try_ms)
        return;
    page->try_ms = now + LISTEN_AGAIN_MS;
    if (http_start(&page->http, child->settings, child->stats, &err) < 0) {
        if (!child->supervised)
            child_fail_start(child, &err);
        stats_reason(child->slot, err.text);
        log_fault(&page->fault, LOG_LEVEL_ERROR, LOG_PLAIN, "No page and no probes over HTTP: %s",
                  err.text);
        return;
    }
    stats_reason(child->slot, "");
    log_fault_over(&page->fault, LOG_PLAIN, "The page and the probes are served again");
}

static void ask(void *data)
{
    struct question *question = data;

    question->due_ms = probe_step(question->probe);
}

static void keep(void *data)
{
    (void)data; /* run owns the question, and waits for the call */
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

/* Until a signal, a request, the answer, the next question or the next beat; what came over HTTP is answered. */
static enum child_signal wait_for_signal(struct child *child, const struct question *question,
                                         struct http *http)
{
    int64_t now = clock_monotonic_ms();
    int64_t wake_ms = now + child_beat_ms(child);
    struct pollfd fds[2 + HTTP_FDS] = {{.fd = child->signal_fd, .events = POLLIN},
                                       {.fd = -1, .events = POLLIN}};

    http_poll(http, fds + 2);
    if (question->call != NULL)
        fds[1].fd = offload_fd(question->call);
    else
        wake_ms = clock_earlier_ms(wake_ms, question->due_ms);
    wake_ms = clock_earlier_ms(wake_ms, http_deadline(http, now));
    int ready = poll(fds, sizeof fds / sizeof fds[0], clock_poll_timeout(wake_ms, now));
    http_process(http, fds + 2);
    return ready > 0 && fds[0].revents != 0 ? child_read_signal(child) : CHILD_NONE;
}

static bool hangs(const struct question *question)
{
    return question->call != NULL && clock_monotonic_ms() - question->asked_ms > QUESTION_MOST_MS;
}

static void run(struct child *child, struct probe *probe, struct page *page)
{
    struct question question = {.probe = probe};

    do {
        if (!hangs(&question))
            stats_beat(child->slot);
        take_answer(&question);
        ask_if_due(&question);
        listen_if_due(page, child);
    } while (wait_for_signal(child, &question, page->http) == CHILD_NONE);

    /* A call under way still uses the probe and the settings. */
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
    struct page page = {0};
    struct error err = {0};

    child_start(&child, argc, argv, "mqtt-bridge-monitor",
                "watches the servers and answers over HTTP");
    if (probe_new(&probe, child.settings, child.stats, &err) < 0)
        child_fail_start(&child, &err);
    listen_if_due(&page, &child);
    stats_set(child.slot, STATS_CONNECTED, 1);
    child_ready(&child);
    run(&child, probe, &page);

    http_stop(page.http);
    probe_free(probe);
    child_end(&child);
    return CHILD_EXIT_DONE;
}
