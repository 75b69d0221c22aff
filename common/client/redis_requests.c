#include "common/client/redis_requests.h"

#include "common/base/alloc.h"

#include <stdlib.h>

static void grow(struct redis_requests *requests)
{
    size_t capacity = requests->capacity == 0 ? 16 : requests->capacity * 2;
    struct redis_request *grown = xcalloc(capacity, sizeof(*grown));

    for (size_t i = 0; i < requests->count; i++)
        grown[i] = requests->ring[(requests->first + i) % requests->capacity];
    free(requests->ring);
    requests->ring = grown;
    requests->capacity = capacity;
    requests->first = 0;
}

void redis_requests_push(struct redis_requests *requests, struct redis_request request)
{
    if (requests->count == requests->capacity)
        grow(requests);
    requests->ring[(requests->first + requests->count) % requests->capacity] = request;
    requests->count++;
}

struct redis_request redis_requests_pop(struct redis_requests *requests)
{
    struct redis_request request = requests->ring[requests->first];

    requests->first = (requests->first + 1) % requests->capacity;
    requests->count--;
    return request;
}

struct redis_request *redis_requests_oldest(const struct redis_requests *requests)
{
    return &requests->ring[requests->first];
}

void redis_requests_free(struct redis_requests *requests)
{
    free(requests->ring);
    *requests = (struct redis_requests){0};
}
