/* Output for people: tables, durations, sizes, the status. Pure: JSON in, text out. */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include "common/base/buf.h"

#include <cjson/cJSON.h>

/* Each appends; a negative value is unknown: "-". */
void render_duration(struct buf *out, double ms); /* "40ms", "12s", "3m02s", "2h14m", "3d04h" */
void render_size(struct buf *out, double bytes);  /* "812K", "1.6M", "24M" */
void render_count(struct buf *out, double value); /* "0", "3812"; below ten with a decimal: "0.5" */

/* The process's name as an operator types it: "worker:2", "consumer:garden". */
void render_title(struct buf *out, const cJSON *process);

/* The answer to {"verb":"status"} as the table of processes, the line below it, and why it is not ready. */
void render_status(struct buf *out, const cJSON *status, bool color);

/* Sorts the processes of the status by the column with that key ("nsutcrdfm"), the greatest number first; reverse:
 * last. False, with nothing sorted, for another key. */
bool render_sort(cJSON *status, char key, bool reverse);
const char *render_key(char key); /* the column's name, "memory"; NULL: no such key */

/* The first `rows` lines of the text, each cut to as many columns. */
void render_clip(struct buf *out, struct bytes text, size_t columns, size_t rows);

#endif
