/* Drives client/failure: DSN TABLE QUEUE AUTO_SETUP TIMEZONE.
 *
 *     write BODY HEADERS DEDUPE_KEY ENTRY_US [IDENTITY]
 *                                               hexadecimal, "-" for empty; answers "<0 or -code> <text>"
 *     count TIMEOUT_MS                          "<result> <count> <text>"
 *     abandon BODY HEADERS DEDUPE_KEY ENTRY_US    begins to write, frees it all and ends: "0 " */
#include "common/base/buf.h"
#include "common/client/failure.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void from_hex(struct buf *out, const char *hex)
{
    for (; hex[0] != '-' && hex[0] != '\0'; hex += 2)
        buf_append_char(out, (char)(hex_digit(hex[0]) * 16 + hex_digit(hex[1])));
}

static int begin_row(struct failure *failure, char *arguments, struct error *err)
{
    struct buf body = {0}, headers = {0}, dedupe_key = {0}, identity = {0};
    const char *entry_us, *more;
    char *save;

    from_hex(&body, strtok_r(arguments, " ", &save));
    from_hex(&headers, strtok_r(NULL, " ", &save));
    from_hex(&dedupe_key, strtok_r(NULL, " ", &save));
    entry_us = strtok_r(NULL, " \n", &save);
    more = strtok_r(NULL, " \n", &save);
    from_hex(&identity, more != NULL ? more : "-");
    const struct failure_row row = {
        .body = buf_bytes(&body),
        .headers = buf_bytes(&headers),
        .dedupe_key = buf_bytes(&dedupe_key),
        .identity = buf_bytes(&identity),
        .entry_us = strtoll(entry_us, NULL, 10),
    };
    int result = failure_write(failure, &row, err);
    buf_free(&body);
    buf_free(&headers);
    buf_free(&dedupe_key);
    buf_free(&identity);
    return result;
}

static void write_row(struct failure *failure, char *arguments)
{
    struct error err = {0};
    int result = begin_row(failure, arguments, &err);

    if (result == 0) {
        while (!failure_take(failure, &result, &err)) {
            struct pollfd waiting = {.fd = failure_fd(failure), .events = POLLIN};

            poll(&waiting, 1, -1);
        }
    }
    printf("%d %s\n", result, result < 0 ? err.text : "");
}

static void count_rows(struct failure *failure, int64_t timeout_ms)
{
    struct error err = {0};
    int64_t count = -1;
    int result = failure_count(failure, timeout_ms, &count, &err);

    printf("%d %lld %s\n", result, (long long)count, result < 0 ? err.text : "");
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t size = 0;
    struct failure *failure, *counting;
    struct error err = {0};
    bool abandoned = false;

    if (argc != 6)
        return 2;
    const struct settings_failure settings = {
        .dsn = argv[1],
        .table = argv[2],
        .queue_name = argv[3],
        .auto_setup = argv[4][0] == '1',
        .timezone = argv[5],
    };
    if (failure_new(&failure, &settings, &err) < 0 || failure_new(&counting, &settings, &err) < 0) {
        printf("%d %s\n", -(int)err.code, err.text);
        return 0;
    }
    while (!abandoned && getline(&line, &size, stdin) > 0) {
        if (strncmp(line, "count ", 6) == 0) {
            count_rows(counting, strtoll(line + 6, NULL, 10));
        } else if (strncmp(line, "abandon ", 8) == 0) {
            printf("%d \n", begin_row(failure, line + 8, &err));
            abandoned = true;
        } else {
            write_row(failure, line + strlen("write "));
        }
        fflush(stdout);
    }
    free(line);
    failure_free(counting);
    failure_free(failure);
    return 0;
}
