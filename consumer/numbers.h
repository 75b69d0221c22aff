/* A set of numbers, of a spool's files. Few: it is searched from its front. */
#ifndef CONSUMER_NUMBERS_H
#define CONSUMER_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numbers {
    uint64_t *at;
    size_t len;
};

void numbers_add(struct numbers *numbers, uint64_t number); /* nothing, if it is there */
bool numbers_have(const struct numbers *numbers, uint64_t number);
void numbers_sort(struct numbers *numbers);
void numbers_free(struct numbers *numbers);

#endif
