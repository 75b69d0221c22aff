#include "common/base/clock.h"

#include "common/base/sys.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

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

/* Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
 * days_from_civil, for years after 0. */
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
