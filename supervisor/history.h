/* The last things that happened to the service, for `mqtt-bridge events`: a ring in memory. Zero-initialised is empty. */
#ifndef SUPERVISOR_HISTORY_H
#define SUPERVISOR_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#define HISTORY_KEPT      128
#define HISTORY_TEXT_SIZE 256

struct history_entry {
    int64_t wall_us;
    char text[HISTORY_TEXT_SIZE];
};

struct history {
    struct history_entry entry[HISTORY_KEPT];
    size_t added; /* since the start */
};

void history_add(struct history *history, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The index-th that is kept, the oldest first; NULL behind the newest. */
const struct history_entry *history_get(const struct history *history, size_t index);

#endif
