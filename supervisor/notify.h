/* What a child tells the supervisor: one line on one pipe says that it is ready; another pipe carries its
 * output, whatever the child or a library writes to standard output and standard error.
 *
 * The caller reads the bytes. Here they become lines: cut at NOTIFY_LINE_SIZE and limited in number, so that
 * a child that writes without end costs nothing but its own time. The log makes them printable. Pure. */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

#include "common/base/bytes.h"

#include <stdint.h>

#define NOTIFY_LINE_SIZE        512
#define NOTIFY_WINDOW_MS        10000
#define NOTIFY_LINES_PER_WINDOW 100

/* Zero-initialised is empty and ready. */
struct notify_output {
    char line[NOTIFY_LINE_SIZE]; /* the line whose end has not come yet */
    size_t len;
    char last_line[NOTIFY_LINE_SIZE]; /* the last output: the last line that was not blank, or "" */
    int64_t window_ms;
    int shown;
    uint64_t hidden; /* lines since the last one that was shown */
};

/* Called for each line within the limit; hidden: how many lines before it were above the limit. */
typedef void notify_output_show(void *context, const char *line, uint64_t hidden);

void notify_output_feed(struct notify_output *output, struct bytes bytes, int64_t now_ms,
                        notify_output_show *say, void *context);
/* The child has ended: the bytes behind the last end of line are a line too. */
void notify_output_end(struct notify_output *output, int64_t now_ms, notify_output_show *say,
                       void *context);

struct notify_ready {
    char text[8];
    size_t len;
    bool spoilt; /* too long, or true was returned: the rest is ignored */
};

/* True once: when "READY" and its end of line have come. */
bool notify_ready_feed(struct notify_ready *line, struct bytes bytes);

#endif
