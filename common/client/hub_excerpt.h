/* The beginning of an answer that was not what it should be, for people: proxies say in it what is wrong.
 * Some echo the request; what has a token in it is not shown. Pure. */
#ifndef COMMON_CLIENT_HUB_EXCERPT_H
#define COMMON_CLIENT_HUB_EXCERPT_H

#include "common/base/bytes.h"

#define HUB_EXCERPT_SIZE 96

struct hub_excerpt {
    char data[HUB_EXCERPT_SIZE];
    size_t len;
};

void hub_excerpt_add(struct hub_excerpt *excerpt, struct bytes chunk);
/* Puts ": <excerpt>" behind text, as far as there is room, unless it may show `token`. */
void hub_excerpt_append(const struct hub_excerpt *excerpt, const char *token, char *text,
                        size_t size);

#endif
