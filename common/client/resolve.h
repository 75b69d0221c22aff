/* The addresses of one host, asked for without waiting. getaddrinfo blocks for as long as the name servers are silent.
 * So each question has a short-lived thread of its own (common/base/offload.h). One thread uses a resolver, and there
 * is at most one question under way.
 *
 *     resolve_ask(resolve);
 *     while (!resolve_take(resolve, &answer))
 *         poll resolve_fd for POLLIN
 *
 * A numeric address needs no thread: resolve_take answers at once. Neither resolve_free nor the end of the process
 * waits for a look-up that hangs. */
#ifndef COMMON_CLIENT_RESOLVE_H
#define COMMON_CLIENT_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>

#define RESOLVE_ADDRESSES_MAX 16
#define RESOLVE_ADDRESS_SIZE  64 /* an IPv6 address and %interface */

struct resolve_answer {
    size_t len; /* 0: the name has no address, or the look-up failed; text says why */
    char address[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_SIZE]; /* numeric, preferred ones first */
    char text[120];
};

struct resolve;

/* Copies host; begins no look-up. */
struct resolve *resolve_new(const char *host);
void resolve_free(struct resolve *resolve); /* the answer of a look-up under way is dropped */
const char *resolve_host(const struct resolve *resolve);

/* Begins a look-up, unless one is under way, or its answer came a moment ago and was not taken. So a caller that
 * gives up and asks again finds a name in the end, however slow its look-up is. */
void resolve_ask(struct resolve *resolve);
/* True once for each answer. */
bool resolve_take(struct resolve *resolve, struct resolve_answer *answer);
/* Readable when there is an answer; -1: no look-up is under way. The descriptor changes with each look-up. */
int resolve_fd(const struct resolve *resolve);

/* Puts IPv4 addresses first: many servers listen on IPv4 only, even if their name has an IPv6 address too. */
void resolve_put_ipv4_first(struct resolve_answer *answer);

/* True if host is a numeric address. */
bool resolve_is_numeric(const char *host);

#endif
