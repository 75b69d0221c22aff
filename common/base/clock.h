/* The two clocks, and how long to wait. Wall time is for what people and other programs read. Monotonic time is for
 * deadlines and durations, and means nothing outside this boot of this machine. */
#ifndef COMMON_BASE_CLOCK_H
#define COMMON_BASE_CLOCK_H

#include "common/base/bytes.h"
#include "common/base/error.h"

#include <stdint.h>

int64_t clock_wall_us(void);      /* µs since 1970-01-01 UTC */
int64_t clock_monotonic_us(void); /* µs */
int64_t clock_monotonic_ms(void);

/* "2026-11-24T10:00:00.123456" in UTC without a zone (26 characters): callers add "Z" or "+00:00". */
#define CLOCK_TEXT_SIZE 27
void clock_format_us(int64_t wall_us, char text[CLOCK_TEXT_SIZE]);
#define CLOCK_UTC_SIZE (CLOCK_TEXT_SIZE + 1)
void clock_format_utc(int64_t wall_us, char text[CLOCK_UTC_SIZE]); /* with "Z" */

/* Days from 1970-01-01 to that date of the Gregorian calendar, for years after 0. */
int64_t clock_days_of(int64_t year, int64_t month, int64_t day);

/* Points in time as an operator writes them: `90s`, `15m`, `2h`, `7d`, `1w`, `1d12h` (ago); `now`, `today`,
 * `yesterday`; `2026-11-24`, `2026-11-24T10:00[:00[.5]]`. A date with a time may have a blank for the T, and a zone,
 * `Z` or `+02:00`; without one it is UTC. *us becomes µs after 1970. -ERR_USAGE names the text and the forms. Pure. */
MUST_CHECK int clock_parse(struct bytes text, int64_t now_us, int64_t *us, struct error *err);

/* The earlier of two deadlines; a negative one means none. */
int64_t clock_earlier_ms(int64_t a_ms, int64_t b_ms);

/* Milliseconds until the deadline for poll: 0 if it is past; a negative deadline means none: -1. */
int clock_poll_timeout(int64_t deadline_ms, int64_t now_ms);

/* Exponential back-off with jitter: the minimum, then doubling up to the maximum. Each wait is changed at random by
 * up to a quarter, so that many clients do not come back at once. Reads no clock. */
struct clock_backoff {
    int64_t minimum_ms;
    int64_t maximum_ms;
    int64_t next_ms; /* 0 until the first wait */
};

/* How long to wait now, in ms; the next wait will be twice as long. Never above maximum_ms. */
int64_t clock_backoff_next(struct clock_backoff *backoff);
void clock_backoff_reset(struct clock_backoff *backoff); /* the next wait is the minimum */

#endif
