#include "common/base/log.h"

#include "common/base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAULT_INTERVAL_MS 10000
#define FIELDS_MAX        16

static char process_name[64];
static struct log_options current = {
    .level = LOG_LEVEL_INFO, .format = LOG_FORMAT_LINE, .fd = STDERR_FILENO, .no_extra = true};
static const _Atomic int *followed_level; /* NULL: the options' level counts */
static log_taker *taker;                  /* NULL: nobody takes lines */
static void *taker_context;
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;

/* A write to a file may block. A write to a pipe or terminal must not: if the reader hangs, the
 * line is lost, not the service. */
enum target { TARGET_UNKNOWN, TARGET_FILE, TARGET_STREAM, TARGET_SOCKET };
static _Atomic enum target target;
static atomic_uint_fast64_t dropped; /* lines lost since the last one that was written */
static atomic_bool torn;             /* only the front of the last line was written */

static const struct {
    enum log_level level;
    const char *name;
} LEVELS[] = {
    {LOG_LEVEL_DEBUG, "DEBUG"},   {LOG_LEVEL_INFO, "INFO"},
    {LOG_LEVEL_NOTICE, "NOTICE"}, {LOG_LEVEL_WARNING, "WARNING"},
    {LOG_LEVEL_ERROR, "ERROR"},   {LOG_LEVEL_CRITICAL, "CRITICAL"},
    {LOG_LEVEL_ALERT, "ALERT"},   {LOG_LEVEL_EMERGENCY, "EMERGENCY"},
};
#define LEVELS_LEN LENGTH_OF(LEVELS)

struct log_field log_bytes(const char *key, struct bytes value)
{
    return (struct log_field){.kind = LOG_FIELD_BYTES, .key = key, .bytes = value};
}

struct log_field log_text(const char *key, const char *value)
{
    return log_bytes(key, bytes_of(value));
}

struct log_field log_number(const char *key, int64_t value)
{
    return (struct log_field){.kind = LOG_FIELD_NUMBER, .key = key, .number = value};
}

struct log_field log_flag(const char *key, bool value)
{
    return (struct log_field){.kind = LOG_FIELD_BOOL, .key = key, .number = value};
}

static enum target find_target(int fd)
{
    struct stat info;

    if (fstat(fd, &info) < 0 || S_ISREG(info.st_mode))
        return TARGET_FILE;
    return S_ISSOCK(info.st_mode) ? TARGET_SOCKET : TARGET_STREAM;
}

void log_open(const struct log_options *options)
{
    current = *options;
    target = find_target(options->fd);
    snprintf(process_name, sizeof(process_name), "%s", options->process ? options->process : "");
    current.process = process_name;
}

void log_reopen(int fd)
{
    current.fd = fd;
    target = find_target(fd);
}

void log_follow_level(const _Atomic int *level)
{
    followed_level = level;
}

void log_give_to(log_taker *take, void *context)
{
    taker = take;
    taker_context = context;
}

static bool is_written(enum log_level level)
{
    if (followed_level != NULL)
        return (int)level >= atomic_load_explicit(followed_level, memory_order_relaxed);
    return level >= current.level;
}

static bool log_enabled(enum log_level level)
{
    return is_written(level) || (taker != NULL && level >= LOG_LEVEL_INFO);
}

static const char *level_name(enum log_level level)
{
    for (size_t i = 0; i < LEVELS_LEN; i++)
        if (LEVELS[i].level == level)
            return LEVELS[i].name;
    return "INFO";
}

/* True if the valid UTF-8 text begins with U+0000 to U+001F, or U+007F to U+009F. The
 * character's last byte holds its number. */
static bool is_control(struct bytes text)
{
    unsigned char c = (unsigned char)text.data[0];

    return c < 0x20 || c == 0x7F || (c == 0xC2 && (unsigned char)text.data[1] < 0xA0);
}

/* Encodes as Monolog does: JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE |
 * JSON_INVALID_UTF8_SUBSTITUTE. PHP escapes U+2028 and U+2029 even so. U+007F to U+009F, which
 * PHP keeps, are escaped too, since terminals obey them. */
static void append_string(struct buf *out, struct bytes text)
{
    static const char SHORT[] = "\b\f\n\r\t\"\\";
    static const char LETTER[] = "bfnrt\"\\";
    size_t i = 0;

    buf_append_char(out, '"');
    while (i < text.len) {
        struct bytes rest = bytes_slice(text, i, text.len - i);
        size_t len = bytes_utf8_length(rest);
        unsigned char c = (unsigned char)rest.data[0];
        const char *known = c != 0 ? strchr(SHORT, c) : NULL;

        if (len == 0)
            buf_append(out, BYTES("\xEF\xBF\xBD"));
        else if (len == 1 && known != NULL)
            buf_printf(out, "\\%c", LETTER[known - SHORT]);
        else if (len > 0 && is_control(rest))
            buf_printf(out, "\\u%04x", (unsigned char)rest.data[len - 1]);
        else if (bytes_starts_with(rest, BYTES("\xE2\x80\xA8")))
            buf_append(out, BYTES("\\u2028"));
        else if (bytes_starts_with(rest, BYTES("\xE2\x80\xA9")))
            buf_append(out, BYTES("\\u2029"));
        else
            buf_append(out, bytes_slice(rest, 0, len));
        i += len == 0 ? 1 : len;
    }
    buf_append_char(out, '"');
}

/* Appends seconds as PHP writes a float: without trailing zeros, but with at least one decimal. */
static void append_seconds(struct buf *out, int64_t ms)
{
    buf_printf(out, "%lld.%03lld", (long long)ms / 1000, (long long)ms % 1000);
    while (bytes_ends_with(buf_bytes(out), BYTES("0")) &&
           !bytes_ends_with(buf_bytes(out), BYTES(".0")))
        out->len--;
}

static void append_value(struct buf *out, const struct log_field *field)
{
    switch (field->kind) {
    case LOG_FIELD_BYTES:
        append_string(out, field->bytes);
        break;
    case LOG_FIELD_NUMBER:
        buf_printf(out, "%lld", (long long)field->number);
        break;
    case LOG_FIELD_SECONDS:
        append_seconds(out, field->number);
        break;
    case LOG_FIELD_BOOL:
        buf_append_text(out, field->number ? "true" : "false");
        break;
    case LOG_FIELD_END:
        break;
    }
}

static void append_map(struct buf *out, const struct log_field *fields, enum log_format format)
{
    if (fields == NULL || fields[0].kind == LOG_FIELD_END) {
        buf_append_text(out, format == LOG_FORMAT_JSON ? "{}" : "[]");
        return;
    }
    buf_append_char(out, '{');
    for (size_t i = 0; fields[i].kind != LOG_FIELD_END; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        append_string(out, bytes_of(fields[i].key));
        buf_append_char(out, ':');
        append_value(out, &fields[i]);
    }
    buf_append_char(out, '}');
}

/* The line format keeps one event on one line: LineFormatter replaces line breaks by spaces. */
static void append_message(struct buf *out, struct bytes message)
{
    for (size_t i = 0; i < message.len;) {
        struct bytes rest = bytes_slice(message, i, message.len - i);
        size_t len = bytes_utf8_length(rest);

        if (bytes_starts_with(rest, BYTES("\r\n"))) {
            buf_append_char(out, ' ');
            len = 2;
        } else if (len == 1 && (rest.data[0] == '\n' || rest.data[0] == '\r')) {
            buf_append_char(out, ' ');
        } else if (len > 0 && is_control(rest)) {
            buf_printf(out, "\\x%02x", (unsigned char)rest.data[len - 1]); /* no terminal escapes */
        } else if (len == 0) {
            buf_append(out, BYTES("\xEF\xBF\xBD"));
            len = 1;
        } else {
            buf_append(out, bytes_slice(rest, 0, len));
        }
        i += len;
    }
}

void log_format_line(struct buf *out, const struct log_options *options, int64_t wall_us, int pid,
                     enum log_level level, const struct log_field *context, struct bytes message)
{
    struct log_field extra[4] = {0};
    size_t extras = 0;
    char when[CLOCK_TEXT_SIZE];

    if (!options->no_extra) {
        extra[extras++] = log_text("process", options->process);
        if (options->slot > 0)
            extra[extras++] = log_number("slot", options->slot);
        extra[extras++] = log_number("pid", pid);
    }
    clock_format_us(wall_us, when);
    if (options->format == LOG_FORMAT_LINE) {
        buf_printf(out, "[%s+00:00] mqtt.%s: ", when, level_name(level));
        append_message(out, message);
        buf_append_char(out, ' ');
        append_map(out, context, LOG_FORMAT_LINE);
        buf_append_char(out, ' ');
        append_map(out, extra, LOG_FORMAT_LINE);
    } else {
        buf_append_text(out, "{\"message\":");
        append_string(out, message);
        buf_append_text(out, ",\"context\":");
        append_map(out, context, LOG_FORMAT_JSON);
        buf_printf(out,
                   ",\"level\":%d,\"level_name\":\"%s\",\"channel\":\"mqtt\","
                   "\"datetime\":\"%s+00:00\",\"extra\":",
                   (int)level, level_name(level), when);
        append_map(out, extra, LOG_FORMAT_JSON);
        buf_append_char(out, '}');
    }
    buf_append_char(out, '\n');
}

/* Writes without waiting for the reader of a pipe or terminal. Other processes may share the
 * description, so that setting O_NONBLOCK would affect them. */
static ssize_t write_stream(int fd, const struct buf *line)
{
    const struct iovec part = {line->data, line->len};
    ssize_t written = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);

    if (written >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS))
        return written;
    /* Linux before 6.4, and terminals, don't know RWF_NOWAIT: poll tells whether a write would
     * block. */
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, line->data, line->len);
}

/* Returns false if the line is lost because the reader hangs. Other errors are ignored. */
static bool write_line(const struct buf *line)
{
    enum target kind = target;
    ssize_t written;

    if (kind == TARGET_UNKNOWN)
        target = kind = find_target(current.fd);
    do {
        if (kind == TARGET_SOCKET)
            written = send(current.fd, line->data, line->len, MSG_DONTWAIT | MSG_NOSIGNAL);
        else if (kind == TARGET_STREAM)
            written = write_stream(current.fd, line);
        else
            written = write(current.fd, line->data, line->len);
    } while (written < 0 && errno == EINTR);
    if (kind == TARGET_FILE || written == (ssize_t)line->len)
        return true;
    if (written >= 0)
        torn = true;
    return written < 0 && errno != EAGAIN;
}

/* Reports lost lines. Returns true if none were lost, or the report was written. */
static bool report_dropped(void)
{
    uint64_t count = atomic_exchange(&dropped, 0);
    struct buf line = {0};

    if (count == 0)
        return true;
    bool behind_front = atomic_exchange(&torn, false);
    if (behind_front)
        buf_append_char(&line, '\n');
    log_format_line(&line, &current, clock_wall_us(), (int)getpid(), LOG_LEVEL_WARNING,
                    LOG_WITH(log_number("lines", (int64_t)count)),
                    BYTES("Log lines were lost: what reads the log did not keep up"));
    bool said = write_line(&line);
    if (!said) {
        atomic_fetch_add(&dropped, count);
        if (behind_front)
            torn = true;
    }
    buf_free(&line);
    return said;
}

static void give(int64_t wall_us, enum log_level level, const struct log_field *context,
                 struct bytes message)
{
    struct buf line = {0};
    char when[CLOCK_TEXT_SIZE];

    clock_format_us(wall_us, when);
    buf_printf(&line, "%s %s ", when, level_name(level));
    append_message(&line, message);
    if (context[0].kind != LOG_FIELD_END) {
        buf_append_char(&line, ' ');
        append_map(&line, context, LOG_FORMAT_LINE);
    }
    taker(taker_context, buf_text(&line));
    buf_free(&line);
}

/* more: one more field behind the context's fields; NULL: none. */
static __attribute__((format(printf, 4, 0))) void
write_message(enum log_level level, const struct log_field *context, const struct log_field *more,
              const char *format, va_list arguments)
{
    struct log_field all[FIELDS_MAX + 2] = {0};
    struct buf message = {0};
    struct buf line = {0};
    size_t len = 0;
    int saved = errno;
    int64_t now_us = clock_wall_us();

    for (; context != NULL && len < FIELDS_MAX && context[len].kind != LOG_FIELD_END; len++)
        all[len] = context[len];
    if (more != NULL)
        all[len] = *more;
    buf_vprintf(&message, format, arguments);
    if (taker != NULL && level >= LOG_LEVEL_INFO)
        give(now_us, level, all, buf_bytes(&message));
    if (is_written(level)) {
        log_format_line(&line, &current, now_us, (int)getpid(), level, all, buf_bytes(&message));
        if (!report_dropped() || !write_line(&line))
            atomic_fetch_add(&dropped, 1);
    }
    buf_free(&line);
    buf_free(&message);
    errno = saved;
}

void log_write(enum log_level level, const struct log_field *context, const char *format, ...)
{
    va_list arguments;

    if (!log_enabled(level))
        return;
    va_start(arguments, format);
    write_message(level, context, NULL, format, arguments);
    va_end(arguments);
}

void log_fault(struct log_fault *fault, enum log_level level, const struct log_field *context,
               const char *format, ...)
{
    int64_t now = clock_monotonic_ms();
    uint64_t repeats = 0;
    bool due = false;

    pthread_mutex_lock(&fault_lock);
    if (!fault->standing) {
        fault->standing = true;
        fault->since_ms = now;
        due = true;
    } else {
        fault->unlogged++;
        due = now - fault->last_logged_ms >= FAULT_INTERVAL_MS;
    }
    if (due) {
        repeats = fault->unlogged;
        fault->unlogged = 0;
        fault->last_logged_ms = now;
    }
    pthread_mutex_unlock(&fault_lock);

    if (!due || !log_enabled(level))
        return;
    const struct log_field count = log_number("repeats", (int64_t)repeats);
    va_list arguments;
    va_start(arguments, format);
    write_message(level, context, repeats > 0 ? &count : NULL, format, arguments);
    va_end(arguments);
}

void log_fault_over(struct log_fault *fault, const struct log_field *context, const char *format,
                    ...)
{
    pthread_mutex_lock(&fault_lock);
    bool ended = fault->standing;
    int64_t lasted = clock_monotonic_ms() - fault->since_ms;
    *fault = (struct log_fault){0};
    pthread_mutex_unlock(&fault_lock);

    if (!ended || !log_enabled(LOG_LEVEL_NOTICE))
        return;
    const struct log_field after = {
        .kind = LOG_FIELD_SECONDS, .key = "after_seconds", .number = lasted};
    va_list arguments;
    va_start(arguments, format);
    write_message(LOG_LEVEL_NOTICE, context, &after, format, arguments);
    va_end(arguments);
}
