#include "consumer/mqtt/diagnosis.h"

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
struct probe {
    char *host;
    char *port;
    bool is_open;     /* somebody accepts connections there */
    char text[120];   /* the reason if not */
    char address[64]; /* that was tried, numeric; "" if the name has none */
    size_t addresses; /* that the name has */
};

struct diagnosis {
    struct offload *call; /* NULL: nothing is asked */
    struct probe *probe;
    struct endpoint asked;   /* server NULL: the answer is not wanted any more */
    struct endpoint waiting; /* server NULL: none */
};

struct diagnosis *diagnosis_new(void)
{
    return xcalloc(1, sizeof(struct diagnosis));
}

void diagnosis_free(struct diagnosis *diagnosis)
{
    if (diagnosis == NULL)
        return;
    offload_free(diagnosis->call);
    free(diagnosis);
}

int diagnosis_fd(const struct diagnosis *diagnosis)
{
    return diagnosis->call != NULL ? offload_fd(diagnosis->call) : -1;
}

/* The probe --------------------------------------------------------------------------------------- */

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

static void run_probe(void *data)
{
    struct probe *probe = data;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    struct addrinfo *addresses = NULL;
    int fault = getaddrinfo(probe->host, probe->port, &hints, &addresses);

    if (fault != 0) {
        snprintf(probe->text, sizeof(probe->text), "%s",
                 fault == EAI_SYSTEM ? strerror(errno) : gai_strerror(fault));
        return;
    }
    const struct addrinfo *picked = pick(addresses);
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        probe->addresses++;
    if (getnameinfo(picked->ai_addr, picked->ai_addrlen, probe->address, sizeof(probe->address),
                    NULL, 0, NI_NUMERICHOST) != 0)
        probe->address[0] = '\0';
    fault = try_connect(picked);
    freeaddrinfo(addresses);
    probe->is_open = fault == 0;
    snprintf(probe->text, sizeof(probe->text), "%s", strerror(fault));
}

static void probe_free(void *data)
{
    struct probe *probe = data;

    free(probe->host);
    free(probe->port);
    free(probe);
}

/* target: host:port or [address]:port. */
static struct probe *probe_new(const char *target)
{
    struct probe *made = xcalloc(1, sizeof(*made));
    const char *colon = strrchr(target, ':');
    size_t len = (size_t)(colon - target);

    made->host = target[0] == '[' ? xstrndup(target + 1, len - 2) : xstrndup(target, len);
    made->port = xstrdup(colon + 1);
    return made;
}

/* Questions and answers --------------------------------------------------------------------------- */

static void start(struct diagnosis *diagnosis, const struct endpoint *failed)
{
    diagnosis->probe = probe_new(failed->target);
    diagnosis->call = offload_start(run_probe, probe_free, diagnosis->probe);
    if (diagnosis->call == NULL)
        probe_free(diagnosis->probe); /* no thread to be had: then the reason stays unknown */
    else
        diagnosis->asked = *failed;
}

void diagnosis_ask(struct diagnosis *diagnosis, const struct endpoint *failed)
{
    if (diagnosis->call != NULL)
        diagnosis->waiting = *failed;
    else
        start(diagnosis, failed);
}

void diagnosis_forget(struct diagnosis *diagnosis, const struct server *server)
{
    if (diagnosis->asked.server == server)
        diagnosis->asked.server = NULL;
    if (diagnosis->waiting.server == server)
        diagnosis->waiting.server = NULL;
}

/* The hint at TLS is a guess: not for a server that we have spoken with. */
static const char *explain_end(const struct server *server)
{
    if (server->answered)
        return "accepts connections, but ends ours without an answer";
    if (server->address.tls)
        return "accepts connections, but ends ours in the TLS handshake: it has no TLS there, or a "
               "certificate for another name";
    return "accepts connections, but ends ours without an answer: does it want TLS (MQTT_TLS)?";
}

static void fill_answer(const struct endpoint *asked, const struct probe *probe,
                        struct diagnosis_answer *answer)
{
    answer->slot = asked->slot;
    snprintf(answer->place, sizeof(answer->place), "%s", asked->place);
    if (probe->addresses > 1) /* the library has looked it up, and tries this one only */
        snprintf(answer->place, sizeof(answer->place),
                 "%.250s (%s, the one of its %zu addresses that is tried%s)", asked->place,
                 probe->address, probe->addresses, asked->server->address.tls ? " with TLS" : "");
    snprintf(answer->text, sizeof(answer->text), "%s",
             probe->is_open ? explain_end(asked->server) : probe->text);
}

bool diagnosis_take(struct diagnosis *diagnosis, int64_t now_ms, struct diagnosis_answer *answer)
{
    struct endpoint asked = diagnosis->asked, waiting = diagnosis->waiting;

    if (diagnosis->call == NULL || !offload_is_done(diagnosis->call))
        return false;
    if (asked.server != NULL) {
        if (diagnosis->probe->is_open)
            server_hung_up(asked.server, now_ms);
        else if (!asked.one_of_several) /* the others may be other machines */
            server_did_not_hang_up(asked.server);
        fill_answer(&asked, diagnosis->probe, answer);
    }
    offload_free(diagnosis->call);
    diagnosis->call = NULL;
    diagnosis->asked.server = diagnosis->waiting.server = NULL;
    if (waiting.server != NULL)
        start(diagnosis, &waiting);
    return asked.server != NULL;
}
