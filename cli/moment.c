#include "cli/moment.h"

#include "common/base/clock.h"

#define SECOND_US   INT64_C(1000000)
#define DAY_S       INT64_C(86400)
#define EARLIEST_US 1 /* before 1970 nothing failed, and 0 is no time */

/* What is left to read. */
struct rest {
    struct bytes text;
};

static bool take(struct rest *rest, char c)
{
    if (rest->text.len == 0 || rest->text.data[0] != c)
        return false;
    rest->text = bytes_slice(rest->text, 1, rest->text.len);
    return true;
}

/* That many digits. */
static bool take_digits(struct rest *rest, size_t count, int64_t *value)
{
    uint64_t number;

    if (rest->text.len < count || !bytes_to_u64(bytes_slice(rest->text, 0, count), &number))
        return false;
    rest->text = bytes_slice(rest->text, count, rest->text.len);
    *value = (int64_t)number;
    return true;
}

static size_t count_digits(struct bytes text)
{
    size_t count = 0;

    while (count < text.len && text.data[count] >= '0' && text.data[count] <= '9')
        count++;
    return count;
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

/* "1d12h" in seconds. */
static bool read_ago(struct bytes text, int64_t *seconds)
{
    struct rest rest = {text};

    *seconds = 0;
    while (rest.text.len > 0) {
        size_t digits = count_digits(rest.text);
        int64_t number;

        if (digits == 0 || digits > 9 || !take_digits(&rest, digits, &number) || rest.text.len == 0)
            return false;
        int64_t unit = unit_seconds(rest.text.data[0]);
        if (unit == 0)
            return false;
        *seconds += number * unit;
        rest.text = bytes_slice(rest.text, 1, rest.text.len);
    }
    return text.len > 0;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_in(int64_t year, int64_t month)
{
    static const int64_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return month == 2 && is_leap(year) ? 29 : DAYS[month - 1];
}

static bool read_date(struct rest *rest, int64_t *seconds)
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

/* ".123456", from one digit to nine. */
static bool read_fraction(struct rest *rest, int64_t *us)
{
    size_t digits;
    int64_t value;

    *us = 0;
    if (!take(rest, '.'))
        return true;
    digits = count_digits(rest->text);
    if (digits == 0 || digits > 9 || !take_digits(rest, digits, &value))
        return false;
    for (; digits < 6; digits++)
        value *= 10;
    for (; digits > 6; digits--)
        value /= 10;
    *us = value;
    return true;
}

static bool read_clock(struct rest *rest, int64_t *seconds, int64_t *us)
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

/* "Z", "+02:00", "+0200" or nothing: UTC. */
static bool read_zone(struct rest *rest, int64_t *seconds)
{
    bool east = rest->text.len > 0 && rest->text.data[0] == '+';
    int64_t hour, minute;

    if (rest->text.len == 0 || take(rest, 'Z'))
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
    struct rest rest = {text};
    int64_t seconds;
    int64_t fraction_us = 0;

    if (!read_date(&rest, &seconds))
        return false;
    if (rest.text.len > 0 &&
        ((!take(&rest, 'T') && !take(&rest, ' ')) || !read_clock(&rest, &seconds, &fraction_us) ||
         !read_zone(&rest, &seconds)))
        return false;
    *us = seconds * SECOND_US + fraction_us;
    if (*us < EARLIEST_US)
        *us = EARLIEST_US;
    return rest.text.len == 0;
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

int moment_parse(struct bytes text, int64_t now_us, int64_t *us, struct error *err)
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
