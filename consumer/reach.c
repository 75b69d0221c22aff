#include "consumer/reach.h"

#include "common/base/alloc.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_LIMIT_MS 3000

struct reach {
    pthread_mutex_t lock;
    int users; /* the owner and the thread: the last one frees */
    int event_fd;
    bool asking;
    char *host; /* the thread's while asking */
    char *port;
    enum reach_answer answer;
    char text[160];
};

static void release(struct reach *reach)
{
    pthread_mutex_lock(&reach->lock);
    int users = --reach->users;
    pthread_mutex_unlock(&reach->lock);
    if (users > 0)
        return;
    pthread_mutex_destroy(&reach->lock);
    close(reach->event_fd);
    free(reach->host);
    free(reach->port);
    free(reach);
}

struct reach *reach_new(void)
{
    struct reach *made = xcalloc(1, sizeof(*made));

    pthread_mutex_init(&made->lock, NULL);
    made->users = 1;
    made->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made->event_fd < 0)
        abort();
    return made;
}

void reach_free(struct reach *reach)
{
    if (reach != NULL)
        release(reach);
}

int reach_fd(const struct reach *reach)
{
    return reach->event_fd;
}

static int try_connect(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int fault = 0;
    socklen_t size = sizeof(fault);

    if (fd < 0)
        return errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
        fault = errno;
    if (fault == EINPROGRESS) {
        fault = ETIMEDOUT;
        if (poll(&wait, 1, CONNECT_LIMIT_MS) > 0)
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &size);
    }
    close(fd);
    return fault;
}

static void *look(void *context)
{
    struct reach *reach = context;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses = NULL;
    int fault = getaddrinfo(reach->host, reach->port, &hints, &addresses);
    const char *text = fault == EAI_SYSTEM ? strerror(errno)
                       : fault != 0        ? gai_strerror(fault)
                                           : "";
    uint64_t one = 1;

    if (fault == 0) {
        for (struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
            fault = try_connect(at);
            if (fault == 0)
                break;
        }
        freeaddrinfo(addresses);
        text = strerror(fault);
    }
    pthread_mutex_lock(&reach->lock);
    reach->answer = fault == 0 ? REACH_OPEN : REACH_CLOSED;
    snprintf(reach->text, sizeof(reach->text), "%s", text);
    pthread_mutex_unlock(&reach->lock);
    if (write(reach->event_fd, &one, sizeof(one)) < 0)
        abort();
    release(reach);
    return NULL;
}

static void split_place(struct reach *reach, const char *place)
{
    const char *colon = strrchr(place, ':');
    size_t len = colon != NULL ? (size_t)(colon - place) : strlen(place);

    free(reach->host);
    free(reach->port);
    if (place[0] == '[' && len > 1 && place[len - 1] == ']')
        reach->host = xstrndup(place + 1, len - 2);
    else
        reach->host = xstrndup(place, len);
    reach->port = xstrdup(colon != NULL ? colon + 1 : "1883");
}

bool reach_ask(struct reach *reach, const char *place)
{
    pthread_attr_t detached;
    pthread_t thread;

    if (reach->asking)
        return false;
    split_place(reach, place);
    reach->asking = true;
    pthread_mutex_lock(&reach->lock);
    reach->users++;
    pthread_mutex_unlock(&reach->lock);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    bool asked = pthread_create(&thread, &detached, look, reach) == 0;
    if (!asked) {
        reach->asking = false; /* no thread to be had: then the reason stays unknown */
        release(reach);
    }
    pthread_attr_destroy(&detached);
    return asked;
}

enum reach_answer reach_take(struct reach *reach, char text[160])
{
    uint64_t count;
    enum reach_answer answer;

    ssize_t ignored = read(reach->event_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_lock(&reach->lock);
    answer = reach->answer;
    reach->answer = REACH_NONE;
    snprintf(text, 160, "%s", reach->text);
    pthread_mutex_unlock(&reach->lock);
    if (answer != REACH_NONE)
        reach->asking = false;
    return answer;
}
