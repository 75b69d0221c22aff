#include "consumer/session_why.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "consumer/reach.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 16

struct question {
    struct session_server *server; /* NULL: there is none, or its answer is not wanted any more */
    bool one_of_several;           /* of its addresses */
    size_t slot;
    char place[400];
    char target[400];
};

struct session_why {
    struct reach *reach;
    struct question asked;
    struct question waiting; /* for an answer to that one */
    struct log_fault faults[SLOTS];
};

struct session_why *session_why_new(void)
{
    struct session_why *made = xcalloc(1, sizeof(*made));

    made->reach = reach_new();
    return made;
}

void session_why_free(struct session_why *why)
{
    if (why == NULL)
        return;
    reach_free(why->reach);
    free(why);
}

int session_why_fd(const struct session_why *why)
{
    return reach_fd(why->reach);
}

static void ask(struct session_why *why, const struct question *question)
{
    if (reach_ask(why->reach, question->target))
        why->asked = *question;
}

void session_why_ask(struct session_why *why, struct session_dial *dial)
{
    struct question question = {.server = session_dial_server(dial),
                                .one_of_several = session_dial_is_one_of_several(dial),
                                .slot = session_dial_slot(dial)};

    snprintf(question.place, sizeof(question.place), "%s", session_dial_place(dial));
    snprintf(question.target, sizeof(question.target), "%s", session_dial_target(dial));
    if (reach_fd(why->reach) >= 0)
        why->waiting = question;
    else
        ask(why, &question);
}

void session_why_forget(struct session_why *why, const struct session_server *server)
{
    if (why->asked.server == server)
        why->asked.server = NULL;
    if (why->waiting.server == server)
        why->waiting.server = NULL;
}

bool session_why_take(struct session_why *why, int64_t now_ms, struct session_why_answer *answer)
{
    struct reach_result result;

    if (!reach_take(why->reach, &result))
        return false;
    struct question asked = why->asked;
    struct session_server *server = asked.server;
    why->asked.server = NULL;
    if (why->waiting.server != NULL)
        ask(why, &why->waiting);
    why->waiting.server = NULL;
    if (server == NULL)
        return false;
    if (result.answer == REACH_OPEN)
        session_server_hung_up(server, now_ms);
    else if (!asked.one_of_several) /* the others may be other machines */
        session_server_did_not_hang_up(server);

    answer->slot = asked.slot;
    if (result.addresses > 1) /* the library has looked it up, and tries this one only */
        snprintf(answer->place, sizeof(answer->place),
                 "%.300s (%s, the one of its %zu addresses that is tried%s)", asked.place,
                 result.address, result.addresses, server->address.tls ? " with TLS" : "");
    else
        snprintf(answer->place, sizeof(answer->place), "%s", asked.place);
    if (result.answer == REACH_CLOSED)
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

void session_why_log(struct session_why *why, size_t slot, const char *reason, int64_t wait_ms)
{
    log_fault(&why->faults[slot % SLOTS], LOG_LEVEL_ERROR,
              LOG_WITH(log_number("retry_ms", wait_ms)), "%s", reason);
}

void session_why_over(struct session_why *why, const char *place)
{
    struct log_fault *oldest = &why->faults[0];

    for (size_t i = 1; i < SLOTS; i++)
        if (why->faults[i].standing &&
            (!oldest->standing || why->faults[i].since_ms < oldest->since_ms))
            oldest = &why->faults[i];
    log_fault_over(oldest, LOG_PLAIN, "broker %s: connected again", place);
    memset(why->faults, 0, sizeof(why->faults));
}
