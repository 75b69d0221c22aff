#include "common/base/offload.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct offload {
    void (*work)(void *data);
    void (*free_data)(void *data);
    void *data; /* NULL: taken by offload_take */
    int event_fd;
    atomic_bool done;
    atomic_int users; /* the caller and the thread; the last one frees */
};

static void release(struct offload *call)
{
    if (atomic_fetch_sub(&call->users, 1) > 1)
        return;
    close(call->event_fd);
    if (call->data != NULL)
        call->free_data(call->data);
    free(call);
}

static void *run(void *context)
{
    struct offload *call = context;
    uint64_t one = 1;

    call->work(call->data);
    atomic_store(&call->done, true);
    if (write(call->event_fd, &one, sizeof(one)) < 0)
        abort();
    release(call);
    return NULL;
}

/* Starts a detached thread that blocks all signals. Returns an errno. */
static int start_thread(struct offload *call)
{
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;

    sigfillset(&all);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int fault = pthread_create(&thread, &detached, run, call);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return fault;
}

struct offload *offload_start(void (*work)(void *data), void (*free_data)(void *data), void *data)
{
    int event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (event_fd < 0)
        return NULL;
    struct offload *call = xcalloc(1, sizeof(*call));
    call->work = work;
    call->free_data = free_data;
    call->data = data;
    call->event_fd = event_fd;
    atomic_init(&call->users, 2);
    int fault = start_thread(call);
    if (fault == 0)
        return call;
    close(event_fd);
    free(call);
    errno = fault;
    return NULL;
}

bool offload_is_done(const struct offload *call)
{
    return atomic_load(&call->done);
}

int offload_fd(const struct offload *call)
{
    return call->event_fd;
}

void *offload_take(struct offload *call)
{
    void *data = call->data;

    if (!offload_is_done(call))
        abort();
    call->data = NULL;
    release(call);
    return data;
}

void offload_free(struct offload *call)
{
    if (call != NULL)
        release(call);
}
