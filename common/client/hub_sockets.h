/* Drives a CURLM by its sockets: waits on those that libcurl names, beside the caller's own, and tells it
 * which are ready. curl_multi_perform would look at every transfer, and ask the kernel about each, at
 * every call. For hub.c alone. */
#ifndef COMMON_CLIENT_HUB_SOCKETS_H
#define COMMON_CLIENT_HUB_SOCKETS_H

#include <curl/curl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub_sockets {
    CURLM *multi;
    struct pollfd *fds; /* libcurl's; while waiting the caller's stand behind them */
    size_t len;
    size_t capacity;
    size_t unseen;       /* so many have not been looked at since the last wait */
    int64_t deadline_ms; /* libcurl's; -1: none */
};

/* Takes the multi handle's callbacks; the structure stays where it is until that is cleaned up. */
void hub_sockets_init(struct hub_sockets *sockets, CURLM *multi);
/* After curl_multi_cleanup. */
void hub_sockets_free(struct hub_sockets *sockets);

/* Until one is ready, timeout_ms is over (-1: never) or libcurl has something to do; fills the revents of
 * extra. */
void hub_sockets_wait(struct hub_sockets *sockets, struct curl_waitfd *extra, unsigned extra_len,
                      int timeout_ms);
/* Lets libcurl move on one of the ready ones; false: there are no more. */
bool hub_sockets_step(struct hub_sockets *sockets);
/* Lets it do what is due without a socket, like the beginning of a request. */
void hub_sockets_catch_up(struct hub_sockets *sockets);

#endif
