/* What a child tells the supervisor: that it is ready (one line on one pipe), and its last words
 * (whatever it or a library of its writes to standard output and standard error, on another).
 *
 * Here is the reading of both, over bytes that somebody else read: lines are put together, cut at
 * WORDS_LINE_SIZE, made printable by the log, and limited in number, so that a child that talks
 * without end costs nothing but its own time. It's all gossip: no line can harm. */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

#include "common/base/bytes.h"

#include <stdint.h>

#define WORDS_LINE_SIZE  512
#define WORDS_WINDOW_MS  10000
#define WORDS_PER_WINDOW 100

/* Zero-initialised is empty and ready. */
struct words {
    char line[WORDS_LINE_SIZE]; /* what has no end of line yet */
    size_t len;
    char last[WORDS_LINE_SIZE]; /* the last line that was not blank; "" if there was none */
    int64_t window_ms;
    int shown;
    uint64_t hidden; /* lines since the last one that was shown */
};

/* Called for each line that may be shown; hidden: how many before it were not. */
typedef void words_say(void *context, const char *line, uint64_t hidden);

void words_feed(struct words *words, struct bytes bytes, int64_t now_ms, words_say *say,
                void *context);
/* The child has ended: what has no end of line is a line too. */
void words_end(struct words *words, int64_t now_ms, words_say *say, void *context);

struct ready_line {
    char text[8];
    size_t len;
    bool spoilt; /* too long, or already answered: the rest does not matter */
};

/* True once: when "READY" and its end of line have come. */
bool ready_feed(struct ready_line *line, struct bytes bytes);

#endif
