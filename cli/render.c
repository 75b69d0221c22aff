#include "cli/render.h"

#include "cli/control_client.h"
#include "common/base/alloc.h"
#include "common/base/process_kind.h"
#include "common/runtime/readiness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GREEN  "\033[32m"
#define YELLOW "\033[33m"
#define RED    "\033[31m"
#define BOLD   "\033[1m"
#define PLAIN  "\033[0m"

void render_duration(struct buf *out, double ms)
{
    long long seconds = (long long)(ms / 1000);

    if (ms < 0)
        buf_append_char(out, '-');
    else if (ms < 1000)
        buf_printf(out, "%lldms", (long long)ms);
    else if (seconds < 60)
        buf_printf(out, "%llds", seconds);
    else if (seconds < 3600)
        buf_printf(out, "%lldm%02llds", seconds / 60, seconds % 60);
    else if (seconds < 86400)
        buf_printf(out, "%lldh%02lldm", seconds / 3600, seconds / 60 % 60);
    else
        buf_printf(out, "%lldd%02lldh", seconds / 86400, seconds / 3600 % 24);
}

void render_size(struct buf *out, double bytes)
{
    static const char UNITS[] = "KMGT";
    double value = bytes / 1024;
    size_t unit = 0;

    if (bytes < 0) {
        buf_append_char(out, '-');
        return;
    }
    while (value >= 1000 && unit < sizeof(UNITS) - 2) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, value < 10 && unit > 0 ? "%.1f%c" : "%.0f%c", value, UNITS[unit]);
}

void render_count(struct buf *out, double value)
{
    if (value < 0)
        buf_append_char(out, '-');
    else
        buf_printf(
            out, value > 0.05 && value < 9.95 && fabs(value - rint(value)) > 0.05 ? "%.1f" : "%.0f",
            value);
}

/* An escape sequence "\033[...m" takes no column, and a UTF-8 character one. */
static size_t columns_of(struct bytes text)
{
    size_t columns = 0;

    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\033')
            i += strcspn(text.data + i, "m");
        else
            columns += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    return columns;
}

void render_cell(struct render_table *table, const char *paint, const char *text)
{
    size_t *width = &table->widths[table->len++ % table->columns];
    size_t columns = columns_of(bytes_of(text));

    if (columns > *width)
        *width = table->widest > 0 && columns > table->widest ? table->widest : columns;
    buf_printf(&table->cells, "%s%s%s%c", paint != NULL ? paint : "", text,
               paint != NULL ? PLAIN : "", '\0');
}

void render_table(struct buf *out, const struct render_table *table)
{
    struct bytes rest = buf_bytes(&table->cells), cell;

    for (size_t i = 0; bytes_split(rest, '\0', &cell, &rest);
         i = i + 1 < table->columns ? i + 1 : 0) {
        size_t columns = columns_of(cell);
        size_t blanks = columns < table->widths[i] ? table->widths[i] - columns : 0;

        if (i + 1 == table->columns)
            buf_printf(out, "%.*s\n", BYTES_ARG(cell));
        else
            buf_printf(out, "%.*s%*s", BYTES_ARG(cell), (int)(blanks + table->gap), "");
    }
}

void render_title(struct buf *out, const cJSON *process)
{
    const char *name = control_client_text(process, "name");

    buf_append_text(out, name);
    if (process_kind_of(name) == PROCESS_WORKER)
        buf_printf(out, ":%.0f", control_client_number(process, "slot"));
}

static const char *paint_of(const char *state, bool color)
{
    if (!color)
        return NULL;
    if (strcmp(state, "running") == 0)
        return GREEN;
    if (strcmp(state, "fatal") == 0)
        return RED;
    return YELLOW;
}

typedef void renderer(struct buf *out, double value);

static const struct column {
    char key; /* '\0': top can't sort by the column */
    const char *head;
    const char *word;
    const char *member;
    renderer *render; /* formats a number; NULL: a text */
} COLUMNS[] = {
    {'n', "NAME", "name", "name", NULL},
    {'s', "STATE", "state", "state", NULL},
    {'\0', "PID", "pid", "pid", render_count},
    {'u', "UPTIME", "uptime", "uptime_ms", render_duration},
    {'t', "RESTARTS", "restarts", "restarts", render_count},
    {'c', "CRASHES", "crashes", "crashes", render_count},
    {'r', "RATE/S", "rate", "rate", render_count},
    {'d', "DONE", "done", "done", render_count},
    {'f', "FAILED", "failed", "failed", render_count},
    {'m', "MEMORY", "memory", "memory_bytes", render_size},
};
#define COLUMNS_LEN LENGTH_OF(COLUMNS)

static void process_row(struct render_table *table, const cJSON *process, bool color)
{
    const char *state = control_client_text(process, "state");
    struct buf text = {0};

    render_title(&text, process);
    render_cell(table, NULL, buf_text(&text));
    render_cell(table, paint_of(state, color), state);
    for (size_t i = 2; i < COLUMNS_LEN; i++) {
        buf_clear(&text);
        COLUMNS[i].render(&text, control_client_number(process, COLUMNS[i].member));
        render_cell(table, NULL, buf_text(&text));
    }
    buf_free(&text);
}

static void append_count(struct buf *out, const char *label, const cJSON *object, const char *name)
{
    buf_append_text(out, label);
    render_count(out, control_client_number(object, name));
}

static void append_broker(struct buf *out, const cJSON *status)
{
    const cJSON *process;
    int consumers = 0;
    int connected = 0;

    cJSON_ArrayForEach(process, cJSON_GetObjectItemCaseSensitive(status, "processes"))
    {
        if (process_kind_of(control_client_text(process, "name")) != PROCESS_CONSUMER)
            continue;
        consumers++;
        connected += cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(process, "connected"));
    }
    if (connected > 0 && connected < consumers)
        buf_printf(out, "%d of %d ", connected, consumers);
    buf_append_text(out, connected > 0 ? "connected" : "not connected");
}

static const char *hub_word(const cJSON *status)
{
    double age_ms = control_client_number(status, "asked_ms_ago");
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(status, "parts");
    const cJSON *hub = cJSON_GetObjectItemCaseSensitive(parts, "hub");

    if (hub == NULL || cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(hub, "configured")))
        return "-";
    if (age_ms < 0 || age_ms > READINESS_STALE_MS)
        return "not asked";
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(hub, "ok")) ? "ok" : "not ok";
}

/* Appends "async: ready 12, in flight 96, delayed 3, oldest 40ms · failed 12 · spool 0 · broker
 * connected · hub ok". The age of the numbers follows the name if the monitor hangs or is gone. */
static void summary_line(struct buf *out, const cJSON *status)
{
    const cJSON *transport = cJSON_GetObjectItemCaseSensitive(status, "transport");
    const cJSON *failure = cJSON_GetObjectItemCaseSensitive(status, "failure");
    const cJSON *spool = cJSON_GetObjectItemCaseSensitive(status, "spool");
    double age_ms = control_client_number(status, "asked_ms_ago");

    buf_append_text(out, control_client_text(transport, "name"));
    if (age_ms > READINESS_STALE_MS) {
        buf_append_text(out, ", ");
        render_duration(out, age_ms);
        buf_append_text(out, " ago");
    }
    append_count(out, ": ready ", transport, "ready");
    append_count(out, ", in flight ", transport, "pending");
    append_count(out, ", delayed ", transport, "delayed");
    buf_append_text(out, ", oldest ");
    render_duration(out, control_client_number(transport, "oldest_ms"));
    append_count(out, " · failed ", failure, "messages");
    append_count(out, " · spool ", spool, "messages");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(spool, "paused")))
        buf_append_text(out, " (full: the broker waits)");
    if (control_client_number(spool, "oversized_messages") > 0) {
        append_count(out, " · set aside ", spool, "oversized_messages");
        buf_append_text(out, " (mqtt-bridge spool)");
    }
    buf_append_text(out, " · broker ");
    append_broker(out, status);
    buf_printf(out, " · hub %s\n", hub_word(status));
}

static void group_line(struct buf *out, const cJSON *status, bool color)
{
    const cJSON *transport = cJSON_GetObjectItemCaseSensitive(status, "transport");
    double count = control_client_number(transport, "other_groups");

    if (count <= 0)
        return;
    buf_append_text(out, color ? RED : "");
    render_count(out, count);
    buf_printf(out,
               " other consumer group%s on the stream of %s: what is acknowledged here is deleted "
               "for all%s (docs/DSN.md, \"One group a stream\")\n",
               count > 1 ? "s" : "", control_client_text(transport, "name"), color ? PLAIN : "");
}

static void reason_lines(struct buf *out, const cJSON *status, bool color)
{
    const cJSON *reasons = cJSON_GetObjectItemCaseSensitive(status, "reasons");
    const cJSON *reason;
    bool ready = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(status, "ready"));

    cJSON_ArrayForEach(reason, reasons)
    {
        if (cJSON_IsString(reason))
            buf_printf(out, "%s%s%s: %s\n", color ? YELLOW : "",
                       ready ? "ready without" : "not ready", color ? PLAIN : "",
                       reason->valuestring);
    }
}

/* Appends a line such as "mqtt-bridge 0.1.0 · /etc/mqtt-bridge/mqtt-bridge.ini · up 2h14m ·
 * http://127.0.0.1:9080/". */
static void head_line(struct buf *out, const cJSON *status)
{
    const char *config = control_client_text(status, "config");
    const char *listen = control_client_text(status, "listen");

    if (control_client_text(status, "version")[0] == '\0')
        return;
    buf_printf(out, "mqtt-bridge %s · %s · up ", control_client_text(status, "version"),
               config[0] != '\0' ? config : "no ini file");
    render_duration(out, control_client_number(status, "uptime_s") * 1000);
    if (listen[0] != '\0')
        buf_printf(out, " · http://%s/\n", listen);
    else
        buf_append_text(out, " · no page\n");
}

/* Appends why a process does not run, and what follows: "worker:2: exit code 1: no room; tries
 * again in 12s". */
static void absence_line(struct buf *out, const cJSON *process)
{
    const char *state = control_client_text(process, "state");
    const char *reason = control_client_text(process, "reason");
    double next_try_ms = control_client_number(process, "next_try_ms");

    if ((strcmp(state, "backoff") != 0 && strcmp(state, "fatal") != 0) || reason[0] == '\0')
        return;
    render_title(out, process);
    buf_printf(out, ": %s; ", reason);
    if (next_try_ms < 0) {
        buf_append_text(out, "given up: `mqtt-bridge start ");
        render_title(out, process);
        buf_append_text(out, "` tries again\n");
        return;
    }
    buf_append_text(out, "tries again in ");
    render_duration(out, next_try_ms);
    buf_append_char(out, '\n');
}

void render_status(struct buf *out, const cJSON *status, bool color)
{
    struct render_table table = {.columns = COLUMNS_LEN, .gap = 3};
    const cJSON *processes = cJSON_GetObjectItemCaseSensitive(status, "processes");
    const cJSON *process;

    head_line(out, status);
    for (size_t i = 0; i < table.columns; i++)
        render_cell(&table, color ? BOLD : NULL, COLUMNS[i].head);
    cJSON_ArrayForEach(process, processes)
    {
        process_row(&table, process, color);
    }
    render_table(out, &table);
    buf_free(&table.cells);
    cJSON_ArrayForEach(process, processes)
    {
        absence_line(out, process);
    }
    summary_line(out, status);
    group_line(out, status, color);
    reason_lines(out, status, color);
}

static const struct column *find_column(char key)
{
    for (size_t i = 0; i < COLUMNS_LEN; i++)
        if (COLUMNS[i].key == key && key != '\0')
            return &COLUMNS[i];
    return NULL;
}

const char *render_key(char key)
{
    const struct column *column = find_column(key);

    return column != NULL ? column->word : NULL;
}

/* Orders texts from a to z, and numbers from the greatest down. Unknown numbers come last. */
static int compare(const cJSON *a, const cJSON *b, const char *member)
{
    double left = control_client_number(a, member);
    double right = control_client_number(b, member);

    if (cJSON_IsString(cJSON_GetObjectItemCaseSensitive(a, member)))
        return strcmp(control_client_text(a, member), control_client_text(b, member));
    return (left < right) - (left > right);
}

/* Insertion sort is stable, and fast enough for few processes. */
bool render_sort(cJSON *status, char key, bool reverse)
{
    cJSON *processes = cJSON_GetObjectItemCaseSensitive(status, "processes");
    const struct column *column = find_column(key);
    size_t len = (size_t)cJSON_GetArraySize(processes);
    int direction = reverse ? -1 : 1;

    if (column == NULL)
        return false;
    cJSON **sorted = xcalloc(len + 1, sizeof(*sorted)); // NOLINT(bugprone-sizeof-expression)
    for (size_t i = 0; i < len; i++) {
        cJSON *one = cJSON_DetachItemFromArray(processes, 0);
        size_t to = i;

        for (; to > 0 && compare(sorted[to - 1], one, column->member) * direction > 0; to--)
            sorted[to] = sorted[to - 1];
        sorted[to] = one;
    }
    for (size_t i = 0; i < len; i++)
        cJSON_AddItemToArray(processes, sorted[i]);
    free(sorted);
    return true;
}

/* A sequence "\033[…m" takes no column, and a UTF-8 character takes one. */
void render_clip(struct buf *out, struct bytes text, size_t columns, size_t rows)
{
    size_t column = 0;

    for (size_t i = 0; i < text.len && rows > 0; i++) {
        char c = text.data[i];

        if (c == '\033') {
            size_t end = i;

            while (end < text.len && text.data[end] != 'm')
                end++;
            buf_append(out, bytes_slice(text, i, end - i + (end < text.len)));
            i = end;
            continue;
        }
        if (c == '\n') {
            rows--;
            column = 0;
        } else if (((unsigned char)c & 0xC0) != 0x80) {
            column++;
        }
        if (column <= columns)
            buf_append_char(out, c);
    }
}
