#include "consumer/mqtt/connect_diagnosis.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "consumer/mqtt/tcp_probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 16

struct question {
    struct server *server; /* NULL: there is none, or its answer is not wanted any more */
    bool one_of_several;   /* of its addresses */
    size_t slot;
    char place[400];
    char target[400];
};

struct connect_diagnosis {
    struct tcp_probe *probe;
    struct question asked;
    struct question waiting; /* for an answer to that one */
    struct log_fault faults[SLOTS];
};

struct connect_diagnosis *connect_diagnosis_new(void)
{
    struct connect_diagnosis *made = xcalloc(1, sizeof(*made));

    made->probe = tcp_probe_new();
    return made;
}

void connect_diagnosis_free(struct connect_diagnosis *why)
{
    if (why == NULL)
        return;
    tcp_probe_free(why->probe);
    free(why);
}

int connect_diagnosis_fd(const struct connect_diagnosis *why)
{
    return tcp_probe_fd(why->probe);
}

static void ask(struct connect_diagnosis *why, const struct question *question)
{
    if (tcp_probe_ask(why->probe, question->target))
        why->asked = *question;
}

void connect_diagnosis_ask(struct connect_diagnosis *why, struct endpoints *dial)
{
    struct question question = {.server = endpoints_server(dial),
                                .one_of_several = endpoints_is_one_of_several(dial),
                                .slot = endpoints_slot(dial)};

    snprintf(question.place, sizeof(question.place), "%s", endpoints_place(dial));
    snprintf(question.target, sizeof(question.target), "%s", endpoints_target(dial));
    if (tcp_probe_fd(why->probe) >= 0)
        why->waiting = question;
    else
        ask(why, &question);
}

void connect_diagnosis_forget(struct connect_diagnosis *why, const struct server *server)
{
    if (why->asked.server == server)
        why->asked.server = NULL;
    if (why->waiting.server == server)
        why->waiting.server = NULL;
}

bool connect_diagnosis_take(struct connect_diagnosis *why, int64_t now_ms,
                            struct connect_diagnosis_answer *answer)
{
    struct tcp_probe_result result;

    if (!tcp_probe_take(why->probe, &result))
        return false;
    struct question asked = why->asked;
    struct server *server = asked.server;
    why->asked.server = NULL;
    if (why->waiting.server != NULL)
        ask(why, &why->waiting);
    why->waiting.server = NULL;
    if (server == NULL)
        return false;
    if (result.answer == TCP_PROBE_OPEN)
        server_hung_up(server, now_ms);
    else if (!asked.one_of_several) /* the others may be other machines */
        server_did_not_hang_up(server);

    answer->slot = asked.slot;
    if (result.addresses > 1) /* the library has looked it up, and tries this one only */
        snprintf(answer->place, sizeof(answer->place),
                 "%.300s (%s, the one of its %zu addresses that is tried%s)", asked.place,
                 result.address, result.addresses, server->address.tls ? " with TLS" : "");
    else
        snprintf(answer->place, sizeof(answer->place), "%s", asked.place);
    if (result.answer == TCP_PROBE_CLOSED)
        snprintf(answer->text, sizeof(answer->text), "%s", result.text);
    else
        snprintf(answer->text, sizeof(answer->text), "%s",
                 server->address.tls
                     ? "accepts connections, but ends ours in the TLS handshake: it has no TLS "
                       "there, or a certificate for another name"
                     : "accepts connections, but ends ours without an answer: does it want TLS "
                       "(MQTT_TLS)?");
    return true;
}

void connect_diagnosis_log(struct connect_diagnosis *why, size_t slot, const char *reason,
                           int64_t wait_ms)
{
    log_fault(&why->faults[slot % SLOTS], LOG_LEVEL_ERROR,
              LOG_WITH(log_number("retry_ms", wait_ms)), "%s", reason);
}

void connect_diagnosis_over(struct connect_diagnosis *why, const char *place)
{
    struct log_fault *oldest = &why->faults[0];

    for (size_t i = 1; i < SLOTS; i++)
        if (why->faults[i].standing &&
            (!oldest->standing || why->faults[i].since_ms < oldest->since_ms))
            oldest = &why->faults[i];
    log_fault_over(oldest, LOG_PLAIN, "broker %s: connected again", place);
    memset(why->faults, 0, sizeof(why->faults));
}
