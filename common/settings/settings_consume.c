/* Reads options of ConsumeMessagesCommand as Symfony's ArgvInput does: "--name=value", "--name
 * value", "-n value", "-nvalue". A word that begins with `-` is never taken for a value. Words
 * are separated by white space; there are no quotes. */
#include "common/settings/settings_internal.h"

#include "common/base/words.h"

#include <ctype.h>
#include <string.h>

enum consume_value { VALUE_NONE, VALUE_REQUIRED, VALUE_OPTIONAL };

struct consume_option {
    const char *name;
    char letter;
    enum consume_value value;
    bool (*read)(struct settings_consume *consume, struct bytes value); /* NULL: no effect */
    const char *must; /* completes "must be …" where read refuses the value */
};

struct reading {
    struct settings_consume *consume;
    struct bytes rest;
    struct buf *faults;
};

static bool read_positive(struct bytes value, int64_t *number)
{
    uint64_t parsed;

    if (!bytes_to_u64(value, &parsed) || parsed == 0 || parsed > INT64_MAX / 1000)
        return false;
    *number = (int64_t)parsed;
    return true;
}

static bool read_limit(struct settings_consume *consume, struct bytes value)
{
    return read_positive(value, &consume->limit);
}

static bool read_failure_limit(struct settings_consume *consume, struct bytes value)
{
    return read_positive(value, &consume->failure_limit);
}

static bool read_time_limit(struct settings_consume *consume, struct bytes value)
{
    int64_t seconds;

    if (!read_positive(value, &seconds))
        return false;
    consume->time_limit_ms = seconds * 1000;
    return true;
}

/* Reads "128M", "1g", "65536" or "512kb": powers of 1024, as in PHP's command. */
static bool read_memory_limit(struct settings_consume *consume, struct bytes value)
{
    static const char UNITS[] = "kmgt";
    int64_t bytes;

    if (value.len > 0 && tolower((unsigned char)value.data[value.len - 1]) == 'b')
        value.len--;
    int shift = 0;
    if (value.len > 0) {
        int last = tolower((unsigned char)value.data[value.len - 1]);
        const char *unit = isalpha(last) ? strchr(UNITS, last) : NULL;

        shift = unit ? 10 * (int)(unit - UNITS + 1) : 0;
        value.len -= unit ? 1 : 0;
    }
    if (!read_positive(value, &bytes) || bytes > INT64_MAX >> shift)
        return false;
    consume->memory_limit = bytes << shift;
    return true;
}

static bool read_seconds(struct settings_consume *consume, struct bytes value)
{
    (void)consume;
    size_t dots = 0;
    for (size_t i = 0; i < value.len; i++) {
        dots += value.data[i] == '.';
        if (!isdigit((unsigned char)value.data[i]) && value.data[i] != '.')
            return false;
    }
    return value.len > dots && dots <= 1;
}

static const struct consume_option OPTIONS[] = {
    {"limit", 'l', VALUE_REQUIRED, read_limit, "a positive whole number"},
    {"failure-limit", 'f', VALUE_REQUIRED, read_failure_limit, "a positive whole number"},
    {"memory-limit", 'm', VALUE_REQUIRED, read_memory_limit, "a size such as 128M"},
    {"time-limit", 't', VALUE_REQUIRED, read_time_limit, "a positive number of seconds"},
    {"sleep", 0, VALUE_REQUIRED, read_seconds, "a number of seconds"},
    {"keepalive", 0, VALUE_OPTIONAL, read_seconds, "a number of seconds"},
    {"bus", 'b', VALUE_REQUIRED, NULL, NULL},
    {"no-reset", 0, VALUE_NONE, NULL, NULL},
    {"quiet", 'q', VALUE_NONE, NULL, NULL},
    {"verbose", 'v', VALUE_NONE, NULL, NULL},
    {"no-interaction", 'n', VALUE_NONE, NULL, NULL},
    {"ansi", 0, VALUE_NONE, NULL, NULL},
    {"no-ansi", 0, VALUE_NONE, NULL, NULL},
    {"no-debug", 0, VALUE_NONE, NULL, NULL},
    {"env", 'e', VALUE_REQUIRED, NULL, NULL},
};
#define OPTIONS_LEN LENGTH_OF(OPTIONS)

static struct bytes peek_word(struct reading *reading)
{
    size_t len = 0;

    reading->rest = bytes_trim(reading->rest);
    while (len < reading->rest.len && !isspace((unsigned char)reading->rest.data[len]))
        len++;
    return bytes_slice(reading->rest, 0, len);
}

static struct bytes take_word(struct reading *reading)
{
    struct bytes word = peek_word(reading);

    reading->rest = bytes_slice(reading->rest, word.len, reading->rest.len);
    return word;
}

/* Returns the part of a word that a fault shows. */
static struct bytes shown(struct bytes word)
{
    return bytes_slice(word, 0, 60);
}

static void fault(struct reading *reading, struct bytes word, const char *text)
{
    struct bytes part = shown(word);

    buf_printf(reading->faults, "`%.*s` %s\n", BYTES_ARG(part), text);
}

static void fault_unknown(struct reading *reading, struct bytes word, struct bytes name)
{
    struct words_nearest nearest = {.name = name};
    struct bytes part = shown(word);

    for (size_t i = 0; i < OPTIONS_LEN; i++)
        words_consider(&nearest, OPTIONS[i].name);
    if (bytes_equal_text(name, "queues"))
        fault(reading, word, "can't be used: the Redis transport has no queues, as in PHP");
    else if (nearest.best)
        buf_printf(reading->faults,
                   "`%.*s` is no option of messenger:consume; did you mean `--%s`?\n",
                   BYTES_ARG(part), nearest.best);
    else
        fault(reading, word, "is no option of messenger:consume");
}

static const struct consume_option *find_long(struct bytes name)
{
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (bytes_equal_text(name, OPTIONS[i].name))
            return &OPTIONS[i];
    return NULL;
}

static const struct consume_option *find_letter(char letter)
{
    for (size_t i = 0; i < OPTIONS_LEN; i++)
        if (OPTIONS[i].letter == letter)
            return &OPTIONS[i];
    return NULL;
}

/* given: the option's own word held the value. */
static void apply(struct reading *reading, const struct consume_option *option, struct bytes word,
                  struct bytes value, bool given)
{
    if (option->value == VALUE_NONE) {
        if (given)
            fault(reading, word, "takes no value");
        return;
    }
    struct bytes next = peek_word(reading);
    if (!given && next.len > 0 && next.data[0] != '-') {
        value = take_word(reading);
        given = true;
    }
    if (!given || value.len == 0) {
        if (option->value == VALUE_REQUIRED)
            fault(reading, word, "needs a value");
        return;
    }
    struct bytes part = shown(value);
    if (option->read && !option->read(reading->consume, value))
        buf_printf(reading->faults, "--%s must be %s, not `%.*s`\n", option->name, option->must,
                   BYTES_ARG(part));
}

static void read_long(struct reading *reading, struct bytes word)
{
    struct bytes name;
    struct bytes value;
    bool given = bytes_split(bytes_slice(word, 2, word.len), '=', &name, &value);
    const struct consume_option *option = find_long(name);

    if (option)
        apply(reading, option, word, value, given);
    else
        fault_unknown(reading, word, name);
}

/* Reads -l100, -l 100, -vvv or -qn. */
static void read_letters(struct reading *reading, struct bytes word)
{
    for (size_t i = 1; i < word.len; i++) {
        const struct consume_option *option = find_letter(word.data[i]);

        if (!option) {
            fault_unknown(reading, word, bytes_slice(word, 1, word.len));
            return;
        }
        if (option->value != VALUE_NONE) {
            struct bytes value = bytes_slice(word, i + 1, word.len);

            if (bytes_starts_with(value, BYTES("=")))
                value = bytes_slice(value, 1, value.len);
            apply(reading, option, word, value, value.len > 0);
            return;
        }
    }
}

bool settings_consume_parse(struct settings_consume *consume, struct bytes options,
                            struct buf *faults)
{
    struct reading reading = {consume, options, faults};
    size_t before = faults->len;

    *consume = (struct settings_consume){0};
    for (struct bytes word = take_word(&reading); word.len > 0; word = take_word(&reading))
        if (bytes_starts_with(word, BYTES("--")) && word.len > 2)
            read_long(&reading, word);
        else if (word.data[0] == '-' && word.len > 1 && word.data[1] != '-')
            read_letters(&reading, word);
        else
            fault(&reading, word, "is no option: transports are named by `transports`");
    return faults->len == before;
}
