#include "common/client/hub_sockets.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <stdbool.h>
#include <stdlib.h>

static struct pollfd *find(struct hub_sockets *sockets, curl_socket_t fd)
{
    for (size_t i = 0; i < sockets->len; i++)
        if (sockets->fds[i].fd == fd)
            return &sockets->fds[i];
    return NULL;
}

static void make_room(struct hub_sockets *sockets, size_t wanted)
{
    if (wanted <= sockets->capacity)
        return;
    sockets->capacity = wanted * 2;
    sockets->fds = xrealloc(sockets->fds, sockets->capacity * sizeof(*sockets->fds));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *of_socket)
{
    struct hub_sockets *sockets = context;
    struct pollfd *found = find(sockets, fd);

    (void)easy;
    (void)of_socket;
    if (what == CURL_POLL_REMOVE) {
        if (found != NULL)
            *found = sockets->fds[--sockets->len];
        return 0;
    }
    if (found == NULL) {
        make_room(sockets, sockets->len + 1);
        found = &sockets->fds[sockets->len++];
        *found = (struct pollfd){.fd = fd};
    }
    found->events = (short)(((what & CURL_POLL_IN) != 0 ? POLLIN : 0) |
                            ((what & CURL_POLL_OUT) != 0 ? POLLOUT : 0));
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct hub_sockets *sockets = context;

    (void)multi;
    sockets->deadline_ms = timeout_ms < 0 ? -1 : clock_monotonic_ms() + timeout_ms;
    return 0;
}

void hub_sockets_init(struct hub_sockets *sockets, CURLM *multi)
{
    *sockets = (struct hub_sockets){.multi = multi, .deadline_ms = -1};
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, sockets);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, sockets);
}

void hub_sockets_free(struct hub_sockets *sockets)
{
    free(sockets->fds);
    *sockets = (struct hub_sockets){.deadline_ms = -1};
}

/* poll's bits and curl's need not be the same ones. */
static short events_of(const struct curl_waitfd *extra)
{
    return (short)(((extra->events & CURL_WAIT_POLLIN) != 0 ? POLLIN : 0) |
                   ((extra->events & CURL_WAIT_POLLOUT) != 0 ? POLLOUT : 0));
}

static short revents_of(short revents)
{
    return (short)(((revents & (POLLIN | POLLERR | POLLHUP)) != 0 ? CURL_WAIT_POLLIN : 0) |
                   ((revents & POLLOUT) != 0 ? CURL_WAIT_POLLOUT : 0));
}

static int shorter(const struct hub_sockets *sockets, int timeout_ms)
{
    if (sockets->deadline_ms < 0 || timeout_ms == 0)
        return timeout_ms;
    int own_ms = clock_poll_timeout(sockets->deadline_ms, clock_monotonic_ms());
    return timeout_ms < 0 || own_ms < timeout_ms ? own_ms : timeout_ms;
}

void hub_sockets_wait(struct hub_sockets *sockets, struct curl_waitfd *extra, unsigned extra_len,
                      int timeout_ms)
{
    make_room(sockets, sockets->len + extra_len);
    struct pollfd *others = sockets->fds + sockets->len;
    for (unsigned i = 0; i < extra_len; i++)
        others[i] = (struct pollfd){.fd = extra[i].fd, .events = events_of(&extra[i])};
    int ready = poll(sockets->fds, sockets->len + extra_len, shorter(sockets, timeout_ms));
    for (unsigned i = 0; i < extra_len; i++)
        extra[i].revents = ready > 0 ? revents_of(others[i].revents) : 0;
    sockets->unseen = ready > 0 ? sockets->len : 0;
}

/* An error or a hang-up is for the transfer to find when it reads or writes: it knows what it means. */
static int action_of(const struct pollfd *fd)
{
    bool failed = (fd->revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
    bool in = (fd->revents & POLLIN) != 0 || (failed && (fd->events & POLLIN) != 0);
    bool out = (fd->revents & POLLOUT) != 0 || (failed && (fd->events & POLLOUT) != 0);

    return (in ? CURL_CSELECT_IN : 0) | (out ? CURL_CSELECT_OUT : 0);
}

bool hub_sockets_step(struct hub_sockets *sockets)
{
    int running;

    /* From the last to the first: what libcurl adds meanwhile stands behind us, and the place of one that
     * it takes away is filled with one that has had its turn. */
    while (sockets->unseen > 0) {
        size_t at = --sockets->unseen;
        int action = at < sockets->len ? action_of(&sockets->fds[at]) : 0;

        if (action == 0)
            continue;
        sockets->fds[at].revents = 0;
        curl_multi_socket_action(sockets->multi, sockets->fds[at].fd, action, &running);
        return true;
    }
    return false;
}

void hub_sockets_catch_up(struct hub_sockets *sockets)
{
    int running;

    if (sockets->deadline_ms < 0 || clock_monotonic_ms() < sockets->deadline_ms)
        return;
    sockets->deadline_ms = -1;
    curl_multi_socket_action(sockets->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}
