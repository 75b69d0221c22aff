/* What a connection to Redis has asked and not been answered yet, oldest first. For redis.c. */
#ifndef COMMON_CLIENT_REDIS_REQUESTS_H
#define COMMON_CLIENT_REDIS_REQUESTS_H

#include "common/client/redis.h"

struct redis_request {
    redis_replied *done;
    void *context;
    int64_t silent_since_ms; /* of the oldest */
    int64_t extra_ms;
};

/* Zero-initialised is empty. */
struct redis_requests {
    struct redis_request *ring;
    size_t capacity;
    size_t first;
    size_t count;
};

void redis_requests_push(struct redis_requests *requests, struct redis_request request);
/* Neither of none. */
struct redis_request redis_requests_pop(struct redis_requests *requests);
struct redis_request *redis_requests_oldest(const struct redis_requests *requests);
void redis_requests_free(struct redis_requests *requests);

#endif
