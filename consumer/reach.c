#include "consumer/reach.h"

#include "common/base/alloc.h"
#include "common/base/offload.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_LIMIT_MS 3000

/* The thread's until it is done. */
struct question {
    char *host;
    char *port;
    struct reach_result result;
};

struct reach {
    struct offload *call; /* NULL: nothing is asked */
    struct question *question;
};

struct reach *reach_new(void)
{
    return xcalloc(1, sizeof(struct reach));
}

void reach_free(struct reach *reach)
{
    if (reach == NULL)
        return;
    offload_free(reach->call);
    free(reach);
}

int reach_fd(const struct reach *reach)
{
    return reach->call != NULL ? offload_fd(reach->call) : -1;
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

/* paho's Socket_new takes no other. */
static const struct addrinfo *pick(const struct addrinfo *addresses)
{
    const struct addrinfo *at = addresses;

    while (at->ai_family != AF_INET && at->ai_next != NULL)
        at = at->ai_next;
    return at;
}

static void look(void *data)
{
    struct question *question = data;
    struct reach_result *result = &question->result;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct addrinfo *addresses = NULL;
    int fault = getaddrinfo(question->host, question->port, &hints, &addresses);

    result->answer = REACH_CLOSED;
    if (fault != 0) {
        snprintf(result->text, sizeof(result->text), "%s",
                 fault == EAI_SYSTEM ? strerror(errno) : gai_strerror(fault));
        return;
    }
    const struct addrinfo *picked = pick(addresses);
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        result->addresses++;
    if (getnameinfo(picked->ai_addr, picked->ai_addrlen, result->address, sizeof(result->address),
                    NULL, 0, NI_NUMERICHOST) != 0)
        result->address[0] = '\0';
    fault = try_connect(picked);
    freeaddrinfo(addresses);
    if (fault == 0)
        result->answer = REACH_OPEN;
    else
        snprintf(result->text, sizeof(result->text), "%s", strerror(fault));
}

static void question_free(void *data)
{
    struct question *question = data;

    free(question->host);
    free(question->port);
    free(question);
}

static struct question *question_new(const char *place)
{
    struct question *made = xcalloc(1, sizeof(*made));
    const char *colon = strrchr(place, ':');
    size_t len = colon != NULL ? (size_t)(colon - place) : strlen(place);

    if (place[0] == '[' && len > 1 && place[len - 1] == ']')
        made->host = xstrndup(place + 1, len - 2);
    else
        made->host = xstrndup(place, len);
    made->port = xstrdup(colon != NULL ? colon + 1 : "1883");
    return made;
}

bool reach_ask(struct reach *reach, const char *place)
{
    if (reach->call != NULL)
        return false;
    reach->question = question_new(place);
    reach->call = offload_start(look, question_free, reach->question);
    if (reach->call == NULL)
        question_free(reach->question); /* no thread to be had: then the reason stays unknown */
    return reach->call != NULL;
}

bool reach_take(struct reach *reach, struct reach_result *result)
{
    if (reach->call == NULL || !offload_is_done(reach->call))
        return false;
    *result = reach->question->result;
    offload_free(reach->call);
    reach->call = NULL;
    return true;
}
