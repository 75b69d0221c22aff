/* The log: one line an event, in Monolog's two formats, channel `mqtt`.
 *
 *     log_warning(LOG_WITH(log_bytes("topic", topic), log_number("bytes", 12)),
 *                 "Message \"%.*s\" failed", BYTES_ARG(topic));
 *
 * gives, byte for byte as Monolog 2 and 3 write it (LineFormatter and JsonFormatter):
 *
 *     [2026-11-24T10:06:15.180279+00:00] mqtt.WARNING: Message "a/é" failed {"topic":"a/é","bytes":12} {...}
 *     {"message":"Message \"a/é\" failed","context":{...},"level":300,...,"extra":{...}}
 *
 * One write(2) a line, so that processes that share a file never mix lines. The first argument may
 * be LOG_PLAIN. Bytes that are not UTF-8 are shown with U+FFFD in their place. Any thread may log.
 * Only a file is waited for: a line that a pipe, socket or terminal has no room for is lost, and the next
 * one that goes through comes behind a WARNING with how many were.
 * Before log_open lines go to standard error at level info in line format. */
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
/* From now on the level is what stands there: memory that another process may write. */
void log_follow_level(const _Atomic int *level);
void log_reopen(int fd); /* after SIGUSR1: lines go there from now on */

/* Beside the log, whatever its level: each line from info on, as "2026-11-24T10:06:15.180279 WARNING <message>
 * {<context>}" without an end of line. Any thread calls it. */
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

/* The line without writing it, for tests: appends it, with its newline, to out. */
void log_format_line(struct buf *out, const struct log_options *options, int64_t wall_us, int pid,
                     enum log_level level, const struct log_field *context, struct bytes message);

/* A fault that repeats: the first is logged at once, then at most one line in ten seconds with how
 * many there were since, and log_fault_over logs its end (only if it had begun). Zero-initialised. */
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
