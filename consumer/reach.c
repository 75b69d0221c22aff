#include "consumer/reach.h"

#include "common/base/alloc.h"
#include "common/base/offload.h"

#include <errno.h>
#include <netdb.h>
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
    enum reach_answer answer;
    char text[160];
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

static void look(void *data)
{
    struct question *question = data;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses = NULL;
    int fault = getaddrinfo(question->host, question->port, &hints, &addresses);
    const char *text = fault == EAI_SYSTEM ? strerror(errno)
                       : fault != 0        ? gai_strerror(fault)
                                           : "";

    if (fault == 0) {
        for (struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
            fault = try_connect(at);
            if (fault == 0)
                break;
        }
        freeaddrinfo(addresses);
        text = strerror(fault);
    }
    question->answer = fault == 0 ? REACH_OPEN : REACH_CLOSED;
    snprintf(question->text, sizeof(question->text), "%s", text);
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

enum reach_answer reach_take(struct reach *reach, char text[160])
{
    if (reach->call == NULL || !offload_is_done(reach->call))
        return REACH_NONE;
    enum reach_answer answer = reach->question->answer;
    snprintf(text, 160, "%s", reach->question->text);
    offload_free(reach->call);
    reach->call = NULL;
    return answer;
}
