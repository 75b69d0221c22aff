#include "common/client/resolve.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"

#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How long an answer is fresh that was not taken at once. */
#define FRESH_MS 10000

/* Only the thread uses the question until the look-up is done. */
struct question {
    char *host;
    struct resolve_answer answer;
    int64_t answered_ms;
};

struct resolve {
    char *host;
    struct offload *call; /* the look-up under way; NULL: none */
    /* Owned by the call; without a call by this struct, with an answer not yet taken. */
    struct question *question;
};

static struct question *question_new(const char *host)
{
    struct question *made = xcalloc(1, sizeof(*made));

    made->host = xstrdup(host);
    return made;
}

static void question_free(void *data)
{
    struct question *question = data;

    if (question == NULL)
        return;
    free(question->host);
    free(question);
}

struct resolve *resolve_new(const char *host)
{
    struct resolve *made = xcalloc(1, sizeof(*made));

    made->host = xstrdup(host);
    return made;
}

static void drop_question(struct resolve *resolve)
{
    if (resolve->call != NULL)
        offload_free(resolve->call);
    else
        question_free(resolve->question);
    resolve->call = NULL;
    resolve->question = NULL;
}

void resolve_free(struct resolve *resolve)
{
    if (resolve == NULL)
        return;
    drop_question(resolve);
    free(resolve->host);
    free(resolve);
}

const char *resolve_host(const struct resolve *resolve)
{
    return resolve->host;
}

int resolve_fd(const struct resolve *resolve)
{
    return resolve->call != NULL ? offload_fd(resolve->call) : -1;
}

/* Looks up the host. This blocks, unless flags has AI_NUMERICHOST. */
static void look_up(const char *host, int flags, struct resolve_answer *answer)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
    int fault = getaddrinfo(host, NULL, &hints, &found);

    *answer = (struct resolve_answer){0};
    if (fault != 0) {
        snprintf(answer->text, sizeof(answer->text), "%s",
                 fault == EAI_SYSTEM ? strerror(errno) : gai_strerror(fault));
        return;
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next)
        if (answer->len < RESOLVE_ADDRESSES_MAX &&
            getnameinfo(at->ai_addr, at->ai_addrlen, answer->address[answer->len],
                        RESOLVE_ADDRESS_SIZE, NULL, 0, NI_NUMERICHOST) == 0)
            answer->len++;
    freeaddrinfo(found);
    if (answer->len == 0)
        snprintf(answer->text, sizeof(answer->text), "no address of a known kind");
}

bool resolve_is_numeric(const char *host)
{
    struct resolve_answer answer;

    look_up(host, AI_NUMERICHOST, &answer);
    return answer.len > 0;
}

static void look_up_offloaded(void *data)
{
    struct question *question = data;

    look_up(question->host, 0, &question->answer);
    question->answered_ms = clock_monotonic_ms();
}

static bool is_answered(const struct resolve *resolve)
{
    if (resolve->call != NULL)
        return offload_is_done(resolve->call);
    return resolve->question != NULL;
}

void resolve_ask(struct resolve *resolve)
{
    if (is_answered(resolve) && clock_monotonic_ms() - resolve->question->answered_ms > FRESH_MS)
        drop_question(resolve);
    if (resolve->question != NULL)
        return;
    struct question *question = question_new(resolve->host);
    resolve->question = question;
    look_up(question->host, AI_NUMERICHOST, &question->answer);
    question->answered_ms = clock_monotonic_ms();
    if (question->answer.len > 0)
        return;
    resolve->call = offload_start(look_up_offloaded, question_free, question);
    if (resolve->call == NULL)
        snprintf(question->answer.text, sizeof(question->answer.text),
                 "no thread to look it up: %s", strerror(errno));
}

bool resolve_take(struct resolve *resolve, struct resolve_answer *answer)
{
    if (!is_answered(resolve))
        return false;
    *answer = resolve->question->answer;
    drop_question(resolve);
    return true;
}

void resolve_put_ipv4_first(struct resolve_answer *answer)
{
    struct resolve_answer sorted = {.len = 0};

    for (int ipv6 = 0; ipv6 < 2; ipv6++)
        for (size_t i = 0; i < answer->len; i++)
            if ((strchr(answer->address[i], ':') != NULL) == (ipv6 == 1))
                memcpy(sorted.address[sorted.len++], answer->address[i], RESOLVE_ADDRESS_SIZE);
    memcpy(answer->address, sorted.address, sizeof(answer->address));
}
