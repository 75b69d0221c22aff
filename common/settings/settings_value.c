/* Converts a setting's value to and from text: the type half of settings_table.h. */
#include "common/settings/settings_table.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"
#include "common/wire/dsn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUOTE_MAX 60

struct unit {
    const char *name;
    uint64_t factor;
};

/* The largest unit comes first: a value is written in the largest unit that fits. */
static const struct unit DURATIONS[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {NULL, 0}};
static const struct unit SIZES[] = {
    {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"", 1}, {NULL, 0}};

static void *field_of(const struct setting *row, const void *base)
{
    return (char *)base + row->offset;
}

char **setting_text(const struct setting *row, void *base)
{
    return field_of(row, base);
}

static void set_text(const struct setting *row, void *base, struct bytes text)
{
    char **field = setting_text(row, base);
    char *old = *field;

    *field = xstrndup(text.data, text.len);
    free(old);
}

/* Appends a limit of a range, such as the 65535 of "from 1 to 65535", with the type's unit. */
static void append_quantity(const struct setting *row, double value, struct buf *out)
{
    const struct unit *unit = row->type == SETTING_DURATION ? DURATIONS : SIZES;

    if (row->type != SETTING_DURATION && row->type != SETTING_SIZE) {
        buf_printf(out, "%.10g", value);
        return;
    }
    uint64_t whole = (uint64_t)value;
    if (whole == 0) {
        buf_append_char(out, '0');
        return;
    }
    while (whole % unit->factor != 0)
        unit++;
    buf_append_u64(out, whole / unit->factor);
    buf_append_text(out, unit->name);
}

static void append_words(const struct setting *row, struct buf *out)
{
    for (const struct setting_word *word = row->words; word->text; word++) {
        if (word > row->words)
            buf_append_text(out, word[1].text ? ", " : " or ");
        buf_append_text(out, word->text);
    }
}

/* Refuses with "must be …, not `abc`". A secret is not shown. */
static int refuse(const struct setting *row, struct bytes text, struct error *err, const char *hint)
{
    struct buf must = {0};
    char quoted[QUOTE_MAX + 1];

    bytes_to_printable(text, quoted, sizeof(quoted));
    setting_describe_type(row, &must);
    buf_append_text(&must, hint);
    if (row->flags & (SETTING_SECRET | SETTING_DSN)) {
        error_set(err, ERR_USAGE, "must be %s", buf_text(&must));
    } else if (text.len == 0) {
        error_set(err, ERR_USAGE, "must be %s, and is empty", buf_text(&must));
    } else {
        error_set(err, ERR_USAGE, "must be %s, not `%s%s`", buf_text(&must), quoted,
                  text.len > QUOTE_MAX ? "…" : "");
    }
    buf_free(&must);
    return -ERR_USAGE;
}

static int parse_text(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    if (memchr(text.data, '\0', text.len))
        return error_set(err, ERR_USAGE, "must not hold a NUL byte");
    if (text.len == 0 && row->flags & SETTING_REQUIRED)
        return error_set(err, ERR_USAGE, "must not be empty");
    for (size_t i = 0; i < text.len && !(row->flags & SETTING_SECRET); i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (c < 0x20 || c == 0x7f)
            return error_set(err, ERR_USAGE, "must not hold a control character");
    }
    if (text.len >= 2 && !(row->flags & SETTING_SECRET) &&
        (text.data[0] == '"' || text.data[0] == '\'') && text.data[text.len - 1] == text.data[0])
        return error_set(err, ERR_USAGE, "must be written without quotes around it");
    set_text(row, base, text);
    return 0;
}

static int parse_whole(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    uint64_t value;

    if (!bytes_to_u64(text, &value) || (double)value < row->minimum || (double)value > row->maximum)
        return refuse(row, text, err, "");
    *(int64_t *)field_of(row, base) = (int64_t)value;
    return 0;
}

static int parse_count(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    if (bytes_equal_caseless(text, "auto")) {
        int64_t cores = sys_cpus();

        *(int64_t *)field_of(row, base) =
            cores < (int64_t)row->maximum ? cores : (int64_t)row->maximum;
        return 0;
    }
    return parse_whole(row, base, text, err);
}

static int parse_real(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    char copy[64] = "";
    char *end;

    if (text.len == 0 || text.len >= sizeof(copy))
        return refuse(row, text, err, "");
    memcpy(copy, text.data, text.len);
    double value = strtod(copy, &end);
    if (strspn(copy, "0123456789.") < text.len || *end != '\0' || value < row->minimum ||
        value > row->maximum)
        return refuse(row, text, err, "");
    *(double *)field_of(row, base) = value;
    return 0;
}

static int parse_bool(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    static const char *const WORDS[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

    for (size_t i = 0; i < LENGTH_OF(WORDS); i++) {
        if (bytes_equal_caseless(text, WORDS[i])) {
            *(bool *)field_of(row, base) = i % 2 == 1;
            return 0;
        }
    }
    return refuse(row, text, err, "");
}

/* Reads digits and a unit. A duration must have a unit, so that nobody mistakes seconds for
 * milliseconds. */
static int parse_quantity(const struct setting *row, void *base, struct bytes text,
                          struct error *err)
{
    bool duration = row->type == SETTING_DURATION;
    size_t digits = bytes_leading_digits(text);
    struct bytes name = bytes_trim(bytes_slice(text, digits, text.len - digits));
    uint64_t value;
    if (!bytes_to_u64(bytes_slice(text, 0, digits), &value)) {
        return refuse(row, text, err,
                      duration ? " (500ms, 30s, 5m, 2h, 1d)" : " (4096, 64K, 256M, 1G)");
    }
    const struct unit *unit = duration ? DURATIONS : SIZES;
    while (unit->name && !bytes_equal_caseless(name, unit->name))
        unit++;
    if (duration && value == 0 && name.len == 0)
        unit = DURATIONS;
    if (!unit->name) {
        return refuse(row, text, err,
                      duration && name.len == 0 ? ", with its unit (ms, s, m, h or d)"
                      : duration                ? " (500ms, 30s, 5m, 2h, 1d)"
                                                : " (4096, 64K, 256M, 1G)");
    }
    if (value > INT64_MAX / unit->factor || (double)(value * unit->factor) < row->minimum ||
        (double)(value * unit->factor) > row->maximum)
        return refuse(row, text, err, "");
    *(int64_t *)field_of(row, base) = (int64_t)(value * unit->factor);
    return 0;
}

static int parse_choice(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    for (const struct setting_word *word = row->words; word->text; word++) {
        if (bytes_equal_caseless(text, word->text)) {
            *(unsigned *)field_of(row, base) = word->value;
            return 0;
        }
    }
    return refuse(row, text, err, "");
}

const char *setting_word(const struct setting_word *words, unsigned value)
{
    while (words->text && words->value != value)
        words++;
    return words->text;
}

static const struct {
    const char *text; /* a choice has its words instead */
    int (*parse)(const struct setting *row, void *base, struct bytes text, struct error *err);
} FORMS[] = {
    [SETTING_TEXT] = {"text", parse_text},
    [SETTING_NUMBER] = {"a whole number", parse_whole},
    [SETTING_REAL] = {"a number", parse_real},
    [SETTING_BOOL] = {"yes or no", parse_bool},
    [SETTING_DURATION] = {"a duration", parse_quantity},
    [SETTING_SIZE] = {"a size", parse_quantity},
    [SETTING_CHOICE] = {"", parse_choice},
    [SETTING_COUNT] = {"auto or a whole number", parse_count},
};

void setting_describe_type(const struct setting *row, struct buf *out)
{
    buf_append_text(out, FORMS[row->type].text);
    if (row->type == SETTING_CHOICE)
        append_words(row, out);
    if (row->maximum > 0) {
        buf_append_text(out, " from ");
        append_quantity(row, row->minimum, out);
        buf_append_text(out, " to ");
        append_quantity(row, row->maximum, out);
    }
}

int setting_parse(const struct setting *row, void *base, struct bytes text, struct error *err)
{
    if (text.data == NULL)
        text = BYTES("");
    return FORMS[row->type].parse(row, base, text, err);
}

/* Writes the shortest decimal form that reads back as the same number. */
static void format_real(double value, struct buf *out)
{
    char text[64];

    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, value);
        if (strtod(text, NULL) == value && !strchr(text, 'e'))
            break;
        snprintf(text, sizeof(text), "%.17f", value);
    }
    buf_append_text(out, text);
}

void setting_format(const struct setting *row, const void *base, struct buf *out)
{
    const void *field = field_of(row, base);
    switch (row->type) {
    case SETTING_TEXT:
        buf_append_text(out, *(char *const *)field);
        break;
    case SETTING_CHOICE:
        buf_append_text(out, setting_word(row->words, *(const unsigned *)field));
        break;
    case SETTING_NUMBER:
    case SETTING_COUNT:
        buf_append_u64(out, (uint64_t)(*(const int64_t *)field));
        break;
    case SETTING_REAL:
        format_real(*(const double *)field, out);
        break;
    case SETTING_BOOL:
        buf_append_text(out, *(const bool *)field ? "yes" : "no");
        break;
    case SETTING_DURATION:
    case SETTING_SIZE:
        append_quantity(row, (double)*(const int64_t *)field, out);
        break;
    }
}

void setting_format_masked(const struct setting *row, const void *base, struct buf *out)
{
    const char *text = row->type == SETTING_TEXT ? *(char *const *)field_of(row, base) : "";

    if (text[0] && row->flags & SETTING_SECRET)
        buf_append_text(out, "***");
    else if (text[0] && row->flags & SETTING_DSN)
        dsn_masked(out, text);
    else
        setting_format(row, base, out);
}
