/* Where libcurl finds the hub's name. Its own look-up begins anew with each attempt and ends with it, so a
 * name that takes longer than an attempt would never be found: here one look-up goes on beside the attempts
 * (see resolve.h), and each that begins after its answer is given the addresses. Until there are any, or
 * when they have become old, libcurl looks for itself. For hub.c alone; nothing blocks. */
#ifndef COMMON_CLIENT_HUB_ADDRESS_H
#define COMMON_CLIENT_HUB_ADDRESS_H

#include "common/client/resolve.h"

#include <curl/curl.h>
#include <stdint.h>

struct hub_address {
    struct resolve *resolve; /* NULL: the host is an address itself */
    char *host;
    char *port;
    char *entry;      /* as CURLOPT_RESOLVE has it, of the last answer with addresses; or NULL */
    uint64_t turn;    /* counts those answers */
    int64_t asked_ms; /* -1: not yet */
};

/* What one handle was given. It stays until after that handle's curl_easy_cleanup. */
struct hub_address_given {
    struct curl_slist *list;
    uint64_t turn;
};

/* Nothing is asked yet. */
void hub_address_init(struct hub_address *address, CURLU *url);
void hub_address_free(struct hub_address *address);

/* Before a request begins on easy: gives it the newest addresses and asks again in time. */
void hub_address_give(struct hub_address *address, CURL *easy, struct hub_address_given *given);
/* A request had no answer: the hub may be elsewhere now. */
void hub_address_failed(struct hub_address *address);

#endif
