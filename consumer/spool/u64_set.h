/* A set of numbers, of a spool's files. Few: it is searched from its front. */
#ifndef CONSUMER_SPOOL_U64_SET_H
#define CONSUMER_SPOOL_U64_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct u64_set {
    uint64_t *at;
    size_t len;
};

void u64_set_add(struct u64_set *numbers, uint64_t number); /* nothing, if it is there */
bool u64_set_have(const struct u64_set *numbers, uint64_t number);
void u64_set_sort(struct u64_set *numbers);
void u64_set_free(struct u64_set *numbers);

#endif
