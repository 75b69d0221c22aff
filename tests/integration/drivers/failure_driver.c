/* Drives client/failure: DSN TABLE QUEUE AUTO_SETUP.
 *
 *     write BODY HEADERS LOOK_FOR ENTRY_US      hexadecimal, "-" for empty; answers
 *                                               "<0 or -code> <turns of the loop> <text>"
 *     count TIMEOUT_MS                          failure_admin_count, always on one struct failure_admin:
 *                                               "<result> <count> <text>" */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/client/failure.h"
#include "common/client/failure_admin.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool answered;
static int turns;

static void written(void *context, int result, const struct error *err)
{
    (void)context;
    answered = true;
    printf("%d %d %s\n", result, turns, result < 0 ? err->text : "");
    fflush(stdout);
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void from_hex(struct buf *out, const char *hex)
{
    for (; hex[0] != '-' && hex[0] != '\0'; hex += 2)
        buf_append_char(out, (char)(hex_digit(hex[0]) * 16 + hex_digit(hex[1])));
}

static void drive(struct failure *failure)
{
    while (!answered) {
        struct pollfd waiting = {.fd = failure_fd(failure), .events = failure_events(failure)};

        poll(&waiting, 1, clock_poll_timeout(failure_deadline_ms(failure), clock_monotonic_ms()));
        turns++;
        failure_process(failure);
    }
}

static void write_row(struct failure *failure, char *arguments)
{
    struct buf body = {0}, headers = {0}, look_for = {0};
    char *save;

    from_hex(&body, strtok_r(arguments, " ", &save));
    from_hex(&headers, strtok_r(NULL, " ", &save));
    from_hex(&look_for, strtok_r(NULL, " ", &save));
    const struct failure_row row = {
        .body = buf_bytes(&body),
        .headers = buf_bytes(&headers),
        .look_for = buf_bytes(&look_for),
        .entry_us = strtoll(strtok_r(NULL, " ", &save), NULL, 10),
    };
    answered = false;
    turns = 0;
    failure_write(failure, &row, written, NULL);
    buf_free(&body);
    buf_free(&headers);
    buf_free(&look_for);
    drive(failure);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t size = 0;
    struct failure *failure;
    struct failure_admin *admin;
    struct error err = {0};

    if (argc != 5)
        return 2;
    const struct settings_failure settings = {
        .dsn = argv[1],
        .table = argv[2],
        .queue_name = argv[3],
        .auto_setup = argv[4][0] == '1',
    };
    if (failure_new(&failure, &settings, &err) < 0 ||
        failure_admin_new(&admin, &settings, &err) < 0) {
        printf("%d 0 %s\n", -(int)err.code, err.text);
        return 0;
    }
    while (getline(&line, &size, stdin) > 0) {
        if (strncmp(line, "count ", 6) == 0) {
            int64_t count = -1;
            int result = failure_admin_count(admin, strtoll(line + 6, NULL, 10), &count, &err);

            printf("%d %lld %s\n", result, (long long)count, result < 0 ? err.text : "");
            fflush(stdout);
        } else {
            write_row(failure, line + strlen("write "));
        }
    }
    free(line);
    failure_admin_free(admin);
    failure_free(failure);
    return 0;
}
