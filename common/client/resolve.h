/* The addresses of one host, asked for without waiting: getaddrinfo blocks for as long as the name servers
 * are silent, so each question has a short-lived thread of its own (common/base/offload.h). One thread uses a
 * resolver, and there is at most one question under way.
 *
 *     resolve_ask(resolve);
 *     while (!resolve_take(resolve, &answer))
 *         poll resolve_fd for POLLIN
 *
 * A numeric address has no thread: resolve_take answers at once. A look-up that hangs is waited for by
 * nobody, neither by resolve_free nor at the end of the process. */
#ifndef COMMON_CLIENT_RESOLVE_H
#define COMMON_CLIENT_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>

#define RESOLVE_ADDRESSES_MAX 16
#define RESOLVE_ADDRESS_SIZE  64 /* an IPv6 address and %interface */

struct resolve_answer {
    size_t len; /* 0: the name has no address, or it can't be told; text says why */
    char address[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_SIZE]; /* numeric, the preferred first */
    char text[120];
};

struct resolve;

/* host is copied. Nothing is asked yet. */
struct resolve *resolve_new(const char *host);
void resolve_free(struct resolve *resolve); /* an answer still under way is thrown away */
const char *resolve_host(const struct resolve *resolve);

/* A question still under way is not asked again, and its answer serves, even one that came a moment ago and
 * was not taken: so a name that is slow to look up is found in the end by one who gives up sooner. */
void resolve_ask(struct resolve *resolve);
/* Each answer is given once. */
bool resolve_take(struct resolve *resolve, struct resolve_answer *answer);
/* Readable when there is an answer; -1: nothing is under way. It changes with each question. */
int resolve_fd(const struct resolve *resolve);

/* Many servers listen to IPv4 alone, even where their name has an IPv6 address too. */
void resolve_put_ipv4_first(struct resolve_answer *answer);

/* Is host an address already? */
bool resolve_is_numeric(const char *host);

#endif
