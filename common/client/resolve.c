#include "common/client/resolve.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long an answer serves that nobody was there to take. */
#define FRESH_MS 10000

struct resolve {
    char *host;   /* does not change */
    int event_fd; /* likewise, once there is a thread; -1 before */
    bool asking;  /* the owner's: there is a question whose answer was not taken */
    pthread_mutex_t lock;
    /* Under the lock. */
    int users; /* the owner and the thread: the last one frees */
    bool answered;
    int64_t answered_ms;
    struct resolve_answer answer;
};

static void release(struct resolve *resolve)
{
    pthread_mutex_lock(&resolve->lock);
    int users = --resolve->users;
    pthread_mutex_unlock(&resolve->lock);
    if (users > 0)
        return;
    pthread_mutex_destroy(&resolve->lock);
    if (resolve->event_fd >= 0)
        close(resolve->event_fd);
    free(resolve->host);
    free(resolve);
}

struct resolve *resolve_new(const char *host)
{
    struct resolve *made = xcalloc(1, sizeof(*made));

    made->host = xstrdup(host);
    made->event_fd = -1;
    made->users = 1;
    pthread_mutex_init(&made->lock, NULL);
    return made;
}

void resolve_free(struct resolve *resolve)
{
    if (resolve != NULL)
        release(resolve);
}

const char *resolve_host(const struct resolve *resolve)
{
    return resolve->host;
}

int resolve_fd(const struct resolve *resolve)
{
    return resolve->event_fd;
}

/* Blocks, unless flags has AI_NUMERICHOST. */
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

static void give_answer(struct resolve *resolve, const struct resolve_answer *answer)
{
    uint64_t one = 1;

    pthread_mutex_lock(&resolve->lock);
    resolve->answer = *answer;
    resolve->answered = true;
    resolve->answered_ms = clock_monotonic_ms();
    if (resolve->event_fd >= 0 && write(resolve->event_fd, &one, sizeof(one)) < 0)
        abort();
    pthread_mutex_unlock(&resolve->lock);
}

static void *look_up_aside(void *context)
{
    struct resolve *resolve = context;
    struct resolve_answer answer;

    look_up(resolve->host, 0, &answer);
    give_answer(resolve, &answer);
    release(resolve);
    return NULL;
}

/* The process's signals are its own thread's. Returns an errno. */
static int start_thread(struct resolve *resolve)
{
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int fault = pthread_create(&thread, &detached, look_up_aside, resolve);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return fault;
}

static void ask_aside(struct resolve *resolve)
{
    struct resolve_answer answer = {0};
    int fault = 0;

    if (resolve->event_fd < 0)
        resolve->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (resolve->event_fd < 0)
        fault = errno;
    pthread_mutex_lock(&resolve->lock);
    resolve->users++;
    pthread_mutex_unlock(&resolve->lock);
    if (fault == 0)
        fault = start_thread(resolve);
    if (fault == 0)
        return;
    snprintf(answer.text, sizeof(answer.text), "no thread to look it up: %s", strerror(fault));
    give_answer(resolve, &answer);
    release(resolve);
}

static bool is_stale(struct resolve *resolve)
{
    pthread_mutex_lock(&resolve->lock);
    bool stale = resolve->answered && clock_monotonic_ms() - resolve->answered_ms > FRESH_MS;
    pthread_mutex_unlock(&resolve->lock);
    return stale;
}

void resolve_ask(struct resolve *resolve)
{
    struct resolve_answer answer;

    if (resolve->asking && is_stale(resolve))
        resolve_take(resolve, &answer);
    if (resolve->asking)
        return;
    resolve->asking = true;
    look_up(resolve->host, AI_NUMERICHOST, &answer);
    if (answer.len > 0)
        give_answer(resolve, &answer);
    else
        ask_aside(resolve);
}

bool resolve_take(struct resolve *resolve, struct resolve_answer *answer)
{
    uint64_t count;

    pthread_mutex_lock(&resolve->lock);
    bool answered = resolve->answered;
    if (answered)
        *answer = resolve->answer;
    resolve->answered = false;
    pthread_mutex_unlock(&resolve->lock);
    if (!answered)
        return false;
    ssize_t ignored = resolve->event_fd >= 0 ? read(resolve->event_fd, &count, sizeof(count)) : 0;
    (void)ignored;
    resolve->asking = false;
    return true;
}
