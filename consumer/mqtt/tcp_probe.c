#include "consumer/mqtt/tcp_probe.h"

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
    struct tcp_probe_result result;
};

struct tcp_probe {
    struct offload *call; /* NULL: nothing is asked */
    struct question *question;
};

struct tcp_probe *tcp_probe_new(void)
{
    return xcalloc(1, sizeof(struct tcp_probe));
}

void tcp_probe_free(struct tcp_probe *probe)
{
    if (probe == NULL)
        return;
    offload_free(probe->call);
    free(probe);
}

int tcp_probe_fd(const struct tcp_probe *probe)
{
    return probe->call != NULL ? offload_fd(probe->call) : -1;
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
    struct tcp_probe_result *result = &question->result;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct addrinfo *addresses = NULL;
    int fault = getaddrinfo(question->host, question->port, &hints, &addresses);

    result->answer = TCP_PROBE_CLOSED;
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
        result->answer = TCP_PROBE_OPEN;
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

bool tcp_probe_ask(struct tcp_probe *probe, const char *place)
{
    if (probe->call != NULL)
        return false;
    probe->question = question_new(place);
    probe->call = offload_start(look, question_free, probe->question);
    if (probe->call == NULL)
        question_free(probe->question); /* no thread to be had: then the reason stays unknown */
    return probe->call != NULL;
}

bool tcp_probe_take(struct tcp_probe *probe, struct tcp_probe_result *result)
{
    if (probe->call == NULL || !offload_is_done(probe->call))
        return false;
    *result = probe->question->result;
    offload_free(probe->call);
    probe->call = NULL;
    return true;
}
