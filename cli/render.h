/* Output for people: tables, durations, sizes, the status. Pure: JSON in, text out. */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include "common/base/buf.h"

#include <cjson/cJSON.h>

/* Each appends; a negative value is unknown: "-". */
void render_duration(struct buf *out, double ms); /* "40ms", "12s", "3m02s", "2h14m", "3d04h" */
void render_size(struct buf *out, double bytes);  /* "812K", "1.6M", "24M" */
void render_count(struct buf *out, double value); /* "0", "3812"; below ten with a decimal: "0.5" */

/* A table. All but its last column are as wide as their widest cell, at most `widest`: longer cells break the alignment.
 * The caller sets the first members, and frees `cells`. */
#define RENDER_COLUMNS_MAX 16
struct render_table {
    size_t columns;
    size_t gap;       /* blanks between two columns */
    size_t widest;    /* 0: no limit */
    struct buf cells; /* each ends with a NUL */
    size_t len;       /* cells so far */
    size_t widths[RENDER_COLUMNS_MAX];
};

/* Adds the next cell. paint: the escape sequence before it, or NULL. */
void render_cell(struct render_table *table, const char *paint, const char *text);
void render_table(struct buf *out, const struct render_table *table);

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
