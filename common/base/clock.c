#include "common/base/clock.h"

#include "common/base/sys.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

#define SECOND_US   INT64_C(1000000)
#define DAY_S       INT64_C(86400)
#define EARLIEST_US 1 /* earliest time that is parsed, since callers take 0 for no time */

static int64_t read_us(clockid_t which)
{
    struct timespec now;

    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_monotonic_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

void clock_format_us(int64_t wall_us, char text[CLOCK_TEXT_SIZE])
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    char date[32];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, CLOCK_TEXT_SIZE, "%.19s.%06d", date, (int)(wall_us % 1000000));
}

void clock_format_utc(int64_t wall_us, char text[CLOCK_UTC_SIZE])
{
    clock_format_us(wall_us, text);
    text[CLOCK_TEXT_SIZE - 1] = 'Z';
    text[CLOCK_TEXT_SIZE] = '\0';
}

/* The algorithm is days_from_civil of Howard Hinnant's "chrono-Compatible Low-Level Date
 * Algorithms", for years after 0. */
int64_t clock_days_of(int64_t year, int64_t month, int64_t day)
{
    if (month <= 2)
        year--;
    int64_t era = year / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

/* Steps over the next character of the unread text, if that is c. */
static bool take(struct bytes *rest, char c)
{
    if (rest->len == 0 || rest->data[0] != c)
        return false;
    *rest = bytes_slice(*rest, 1, rest->len);
    return true;
}

/* Takes exactly `count` digits. */
static bool take_digits(struct bytes *rest, size_t count, int64_t *value)
{
    uint64_t number;

    if (rest->len < count || !bytes_to_u64(bytes_slice(*rest, 0, count), &number))
        return false;
    *rest = bytes_slice(*rest, count, rest->len);
    *value = (int64_t)number;
    return true;
}

static int64_t unit_seconds(char unit)
{
    switch (unit) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return DAY_S;
    case 'w':
        return 7 * DAY_S;
    }
    return 0;
}

/* Reads a duration such as "1d12h" in seconds. */
static bool read_ago(struct bytes text, int64_t *seconds)
{
    struct bytes rest = text;

    *seconds = 0;
    while (rest.len > 0) {
        size_t digits = bytes_leading_digits(rest);
        int64_t number;

        if (digits == 0 || digits > 9 || !take_digits(&rest, digits, &number) || rest.len == 0)
            return false;
        int64_t unit = unit_seconds(rest.data[0]);
        if (unit == 0)
            return false;
        *seconds += number * unit;
        rest = bytes_slice(rest, 1, rest.len);
    }
    return text.len > 0;
}

static int64_t days_in(int64_t year, int64_t month)
{
    int64_t next_month = month < 12 ? month + 1 : 1;

    return clock_days_of(month < 12 ? year : year + 1, next_month, 1) -
           clock_days_of(year, month, 1);
}

static bool read_date(struct bytes *rest, int64_t *seconds)
{
    int64_t year, month, day;

    if (!take_digits(rest, 4, &year) || !take(rest, '-') || !take_digits(rest, 2, &month) ||
        !take(rest, '-') || !take_digits(rest, 2, &day))
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return false;
    *seconds = clock_days_of(year, month, day) * DAY_S;
    return true;
}

/* Reads an optional fraction such as ".123456", with one to nine digits. */
static bool read_fraction(struct bytes *rest, int64_t *us)
{
    size_t digits;
    int64_t value;

    *us = 0;
    if (!take(rest, '.'))
        return true;
    digits = bytes_leading_digits(*rest);
    if (digits == 0 || digits > 9 || !take_digits(rest, digits, &value))
        return false;
    for (; digits < 6; digits++)
        value *= 10;
    for (; digits > 6; digits--)
        value /= 10;
    *us = value;
    return true;
}

static bool read_clock(struct bytes *rest, int64_t *seconds, int64_t *us)
{
    int64_t hour, minute, second = 0;

    *us = 0;
    if (!take_digits(rest, 2, &hour) || !take(rest, ':') || !take_digits(rest, 2, &minute))
        return false;
    if (take(rest, ':') && (!take_digits(rest, 2, &second) || !read_fraction(rest, us)))
        return false;
    if (hour > 23 || minute > 59 || second > 59)
        return false;
    *seconds += hour * 3600 + minute * 60 + second;
    return true;
}

/* Reads a zone: "Z", "+02:00", "+0200", or nothing, which means UTC. */
static bool read_zone(struct bytes *rest, int64_t *seconds)
{
    bool east = rest->len > 0 && rest->data[0] == '+';
    int64_t hour, minute;

    if (rest->len == 0 || take(rest, 'Z'))
        return true;
    if (!take(rest, '+') && !take(rest, '-'))
        return false;
    if (!take_digits(rest, 2, &hour))
        return false;
    (void)take(rest, ':');
    if (!take_digits(rest, 2, &minute) || hour > 14 || minute > 59)
        return false;
    *seconds += (east ? -1 : 1) * (hour * 3600 + minute * 60);
    return true;
}

static bool read_absolute(struct bytes text, int64_t *us)
{
    struct bytes rest = text;
    int64_t seconds;
    int64_t fraction_us = 0;

    if (!read_date(&rest, &seconds))
        return false;
    if (rest.len > 0 && ((!take(&rest, 'T') && !take(&rest, ' ')) ||
                         !read_clock(&rest, &seconds, &fraction_us) || !read_zone(&rest, &seconds)))
        return false;
    *us = seconds * SECOND_US + fraction_us;
    if (*us < EARLIEST_US)
        *us = EARLIEST_US;
    return rest.len == 0;
}

static bool read_name(struct bytes text, int64_t now_us, int64_t *us)
{
    int64_t midnight = now_us - now_us % (DAY_S * SECOND_US);

    if (bytes_equal_text(text, "now"))
        *us = now_us;
    else if (bytes_equal_text(text, "today"))
        *us = midnight;
    else if (bytes_equal_text(text, "yesterday"))
        *us = midnight - DAY_S * SECOND_US;
    else
        return false;
    return true;
}

int clock_parse(struct bytes text, int64_t now_us, int64_t *us, struct error *err)
{
    struct bytes ago = text;
    int64_t seconds;

    if (bytes_ends_with(ago, BYTES(" ago")))
        ago = bytes_slice(ago, 0, ago.len - 4);
    if (read_name(text, now_us, us) || read_absolute(text, us))
        return 0;
    if (read_ago(ago, &seconds)) {
        *us = seconds < now_us / SECOND_US ? now_us - seconds * SECOND_US : EARLIEST_US;
        return 0;
    }
    return error_set(err, ERR_USAGE,
                     "`%.*s` is no time: give how long ago (90s, 15m, 2h, 7d, 1w) or a date "
                     "(2026-11-24, 2026-11-24T10:00, in UTC or with a zone as +02:00)",
                     text.len > 40 ? 40 : (int)text.len, text.data != NULL ? text.data : "");
}

int64_t clock_earlier_ms(int64_t a_ms, int64_t b_ms)
{
    return a_ms < 0 || (b_ms >= 0 && b_ms < a_ms) ? b_ms : a_ms;
}

int clock_poll_timeout(int64_t deadline_ms, int64_t now_ms)
{
    if (deadline_ms < 0)
        return -1;
    if (deadline_ms <= now_ms)
        return 0;
    if (deadline_ms - now_ms > INT_MAX)
        return INT_MAX;
    return (int)(deadline_ms - now_ms);
}

int64_t clock_backoff_next(struct clock_backoff *backoff)
{
    int64_t wait = backoff->next_ms;

    if (wait < backoff->minimum_ms)
        wait = backoff->minimum_ms;
    if (wait > backoff->maximum_ms)
        wait = backoff->maximum_ms;
    backoff->next_ms = wait * 2;

    int64_t quarter = wait / 4;
    if (quarter > 0)
        wait += (int64_t)(sys_random_u64() % (uint64_t)(2 * quarter + 1)) - quarter;
    return wait > backoff->maximum_ms ? backoff->maximum_ms : wait;
}

void clock_backoff_reset(struct clock_backoff *backoff)
{
    backoff->next_ms = 0;
}
