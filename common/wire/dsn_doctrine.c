/* doctrine://default?queue_name=failed: Messenger's name for the application's own database. */
#include "common/base/alloc.h"
#include "common/base/nearest.h"
#include "common/wire/dsn.h"
#include "common/wire/dsn_parts.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

bool dsn_is_doctrine(const char *text)
{
    return bytes_starts_with(bytes_of(text), BYTES("doctrine:"));
}

/* As PHP's filter_var has it. */
static bool is_true(const char *value)
{
    static const char *const yes[] = {"1", "true", "on", "yes"};

    for (size_t i = 0; i < COUNT(yes); i++)
        if (strcasecmp(value, yes[i]) == 0)
            return true;
    return false;
}

static int read_option(struct dsn_doctrine *dsn, const char *name, const char *value,
                       struct error *err)
{
    /* Those of Symfony's Connection and PostgreSqlConnection; what concerns a reader has no effect. */
    static const char *const known[] = {"queue_name",        "table_name", "auto_setup",
                                        "redeliver_timeout", "use_notify", "check_delayed_interval",
                                        "get_notify_timeout"};
    struct nearest nearest = {.name = bytes_of(name)};
    char **text = strcmp(name, known[0]) == 0   ? &dsn->queue_name
                  : strcmp(name, known[1]) == 0 ? &dsn->table_name
                                                : NULL;

    if (text != NULL) {
        free(*text);
        *text = xstrdup(value);
        return 0;
    }
    if (strcmp(name, known[2]) == 0) {
        dsn->has_auto_setup = true;
        dsn->auto_setup = is_true(value);
        return 0;
    }
    for (size_t i = 0; i < COUNT(known); i++) {
        if (strcmp(name, known[i]) == 0)
            return 0;
        nearest_consider(&nearest, known[i]);
    }
    return error_set(err, ERR_USAGE, "doctrine:// has no option \"%.40s\"%s%s%s",
                     dsn_is_option_name(name) ? name : "...",
                     nearest.best != NULL ? "; did you mean `" : "",
                     nearest.best != NULL ? nearest.best : "", nearest.best != NULL ? "`?" : "");
}

static int read_options(struct dsn_doctrine *dsn, struct bytes query, struct error *err)
{
    char *name, *value;
    int result = 0;

    while (result == 0 && dsn_query_next(&query, &name, &value)) {
        if (name == NULL || value == NULL)
            result = error_set(err, ERR_USAGE, "the DSN's options must not hold a NUL byte");
        else
            result = read_option(dsn, name, value, err);
        free(name);
        free(value);
    }
    return result;
}

int dsn_doctrine_parse(struct dsn_doctrine *dsn, const char *text, struct error *err)
{
    struct dsn_parts parts;

    *dsn = (struct dsn_doctrine){0};
    int result = dsn_parts_split(&parts, text, err);
    if (result == 0)
        result = read_options(dsn, parts.query, err);
    if (result < 0) {
        dsn_doctrine_free(dsn);
        return result;
    }
    dsn->connection = xstrndup(parts.middle.data, parts.middle.len);
    return 0;
}

void dsn_doctrine_free(struct dsn_doctrine *dsn)
{
    free(dsn->connection);
    free(dsn->queue_name);
    free(dsn->table_name);
    *dsn = (struct dsn_doctrine){0};
}
