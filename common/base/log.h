/* The log: one line for each event, in Monolog's two formats, channel `mqtt`.
 *
 *     log_warning(LOG_WITH(log_bytes("topic", topic), log_number("bytes", 12)),
 *                 "Message \"%.*s\" failed", BYTES_ARG(topic));
 *
 * gives, byte for byte as Monolog 2 and 3 write it (LineFormatter and JsonFormatter):
 *
 *     [2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: Message "a/é" failed {"topic":"a/é","bytes":12} {...}
 *     {"message":"Message \"a/é\" failed","context":{...},"level":300,...,"extra":{...}}
 *
 * Each line is one write(2), so that processes that share a file never mix lines. The first argument may be LOG_PLAIN.
 * Bytes that are not UTF-8 are replaced by U+FFFD. Any thread may log. A write to a file may block. A pipe, socket or
 * terminal without room loses lines. A WARNING with the number of lost lines precedes the next line that can be
 * written. Before log_open lines go to standard error at level info in line format. */
#ifndef COMMON_BASE_LOG_H
#define COMMON_BASE_LOG_H

#include "common/base/buf.h"
#include "common/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

/* Monolog's levels. */
enum log_level {
    LOG_LEVEL_DEBUG = 100,
    LOG_LEVEL_INFO = 200,
    LOG_LEVEL_NOTICE = 250,
    LOG_LEVEL_WARNING = 300,
    LOG_LEVEL_ERROR = 400,
    LOG_LEVEL_CRITICAL = 500,
    LOG_LEVEL_ALERT = 550,
    LOG_LEVEL_EMERGENCY = 600,
};

enum log_format { LOG_FORMAT_LINE, LOG_FORMAT_JSON };

struct log_options {
    enum log_level level;
    enum log_format format;
    int fd;              /* where lines go; not closed by the log */
    const char *process; /* extra: "consumer", "worker"; copied */
    int slot;            /* extra, when > 0 */
    bool no_extra;       /* for a program that is no part of a service: extra is empty */
};

enum log_field_kind {
    LOG_FIELD_END,
    LOG_FIELD_BYTES,
    LOG_FIELD_NUMBER,
    LOG_FIELD_SECONDS, /* number is in ms */
    LOG_FIELD_BOOL
};

struct log_field {
    enum log_field_kind kind;
    const char *key;
    struct bytes bytes;
    int64_t number;
};

#define LOG_WITH(...) ((const struct log_field[]){__VA_ARGS__, {.kind = LOG_FIELD_END}})
#define LOG_PLAIN     NULL

struct log_field log_bytes(const char *key, struct bytes value);
struct log_field log_text(const char *key, const char *value);
struct log_field log_number(const char *key, int64_t value);
struct log_field log_flag(const char *key, bool value);

void log_open(const struct log_options *options);
/* From now on the level is read from *level, which another process may change. */
void log_follow_level(const _Atomic int *level);
void log_reopen(int fd); /* after SIGUSR1: lines go to fd from now on */

/* Calls take for each line from info on, whatever the log's level, as "2026-11-24T10:06:15.180279 WARNING <message>
 * {<context>}" without a line end. Any thread may call take. */
typedef void log_taker(void *context, const char *line);
void log_give_to(log_taker *take, void *context);

void log_write(enum log_level level, const struct log_field *context, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define log_debug(...)    log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)     log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_notice(...)   log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_warning(...)  log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)    log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_critical(...) log_write(LOG_LEVEL_CRITICAL, __VA_ARGS__)

/* For tests: appends the line to out, with its newline, instead of writing it. */
void log_format_line(struct buf *out, const struct log_options *options, int64_t wall_us, int pid,
                     enum log_level level, const struct log_field *context, struct bytes message);

/* A fault that repeats. The first one is logged at once, then at most one line in ten seconds with the number of faults
 * since. log_fault_over logs the end, if the fault had begun. Zero-initialised. */
struct log_fault {
    bool standing;
    int64_t last_logged_ms;
    int64_t since_ms;
    uint64_t unlogged;
};

void log_fault(struct log_fault *fault, enum log_level level, const struct log_field *context,
               const char *format, ...) __attribute__((format(printf, 4, 5)));
void log_fault_over(struct log_fault *fault, const struct log_field *context, const char *format,
                    ...) __attribute__((format(printf, 3, 4)));

#endif
