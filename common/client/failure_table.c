/* The failure transport in PostgreSQL: Doctrine's table. */
#include "common/client/failure_store.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETUPS_MAX     3
#define SPREAD_S       16
#define FORMER_S       (365 * 86400)               /* in 1970 */
#define TIME_MAX_US    INT64_C(253402300799000000) /* the year 9999 */
#define TIME_TEXT_SIZE 20                          /* "2026-11-24 10:00:00" */
/* The server gives a statement up before we give the server up: one that waits for a lock must not run
 * when its asker has gone. */
#define STATEMENT_TIMEOUT_MS (FAILURE_PG_STATEMENT_MS - 1000)

struct failure_table {
    struct failure_pg *pg;
    struct failure_pg_sql sql;
    char *queue_name;
    char *timezone;
    bool auto_setup;

    /* The row that is being written: */
    bool looks;
    bool in_ascii; /* the database's encoding can't hold the row as it is */
    struct buf body;
    struct buf headers;
    struct buf look_for; /* empty: none */
    struct buf identity; /* empty: none */
    char now[TIME_TEXT_SIZE];
    char available[TIME_TEXT_SIZE];
    char or_at[TIME_TEXT_SIZE];
    struct failure_pg_answer answer; /* to the last statement */
};

static bool fits_text_column(struct bytes text)
{
    return (text.len == 0 || memchr(text.data, '\0', text.len) == NULL) && bytes_is_utf8(text);
}

static void free_row(struct failure_table *table)
{
    buf_free(&table->body);
    buf_free(&table->headers);
    buf_free(&table->look_for);
    buf_free(&table->identity);
}

static void table_free(void *state)
{
    struct failure_table *table = state;

    failure_pg_free(table->pg);
    failure_pg_sql_free(&table->sql);
    free_row(table);
    free(table->queue_name);
    free(table->timezone);
    free(table);
}

static int table_new(void **state, const struct settings_failure *settings, struct error *err)
{
    struct failure_table *table = xcalloc(1, sizeof(*table));
    int result = failure_pg_sql_make(&table->sql, settings->table, err);

    table->queue_name = xstrdup(settings->queue_name);
    table->timezone = xstrdup(settings->timezone);
    table->auto_setup = settings->auto_setup;
    if (result == 0) {
        result = failure_pg_new(&table->pg, settings->dsn, NULL, err);
        if (result < 0)
            error_wrap(err, "[failure] dsn (DATABASE_URL)");
    }
    if (result < 0) {
        table_free(table);
        return result;
    }
    *state = table;
    return 0;
}

static void format_time(char text[TIME_TEXT_SIZE], int64_t wall_us)
{
    char with_us[CLOCK_TEXT_SIZE];

    clock_format_us(wall_us, with_us);
    snprintf(text, TIME_TEXT_SIZE, "%.10s %.8s", with_us, with_us + 11);
}

static void copy(struct buf *to, struct bytes bytes)
{
    buf_append(to, bytes);
    buf_text(to);
}

/* PHP's reader takes base64 for a body that does not end in `}`. */
static void copy_in_base64(struct buf *to, struct bytes bytes)
{
    base64_encode(to, bytes);
    buf_text(to);
}

/* Where the row is looked for: at its entry's time, spread a little, so that what fails together in one second
 * need not be searched whole for each. One of the future would not be available to PHP before then; and when
 * that is, others may see differently: both places are looked at. */
static void place_row(struct failure_table *table, int64_t entry_us, int64_t now_us)
{
    uint32_t hash = bytes_crc32c(0, table->look_for.data, table->look_for.len);
    int64_t time_us = entry_us - (int64_t)(hash % SPREAD_S) * 1000000;
    int64_t former_us = (int64_t)(hash % FORMER_S) * 1000000;
    bool future = time_us > now_us;

    if (time_us < 0)
        time_us = 0;
    if (time_us > TIME_MAX_US)
        time_us = TIME_MAX_US;
    format_time(table->available, future ? former_us : time_us);
    format_time(table->or_at, future ? time_us : former_us);
}

static void copy_row(struct failure_table *table, const struct failure_row *row)
{
    int64_t now = clock_wall_us();

    if (fits_text_column(row->body))
        copy(&table->body, row->body);
    else
        copy_in_base64(&table->body, row->body);
    copy(&table->headers, row->headers);
    /* What no column can hold is not there to be found: rather twice than never. */
    table->looks = row->look_for.len > 0 && fits_text_column(row->look_for);
    copy(&table->look_for, table->looks ? row->look_for : BYTES_NONE);
    copy(&table->identity, fits_text_column(row->identity) ? row->identity : BYTES_NONE);
    format_time(table->now, now);
    place_row(table, row->entry_us, now);
    table->in_ascii = false;
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] >= 0x80)
            return false;
    return true;
}

/* The same row for a database whose encoding lacks some of its characters. */
static void write_in_ascii(struct failure_table *table)
{
    struct buf body = table->body, headers = table->headers;

    table->body = (struct buf){0};
    table->headers = (struct buf){0};
    table->in_ascii = true;
    if (is_ascii(buf_bytes(&body))) /* base64 already, perhaps */
        copy(&table->body, buf_bytes(&body));
    else if (bytes_starts_with(buf_bytes(&body), BYTES("{")) && json_is_valid(buf_bytes(&body)))
        json_to_ascii(&table->body, buf_bytes(&body));
    else
        copy_in_base64(&table->body, buf_bytes(&body));
    json_to_ascii(&table->headers, buf_bytes(&headers));
    buf_text(&table->body);
    buf_text(&table->headers);
    buf_free(&body);
    buf_free(&headers);
}

static int run(struct failure_table *table, const char *sql)
{
    return failure_pg_run(table->pg, sql, NULL, -1, &table->answer);
}

static bool answered(const struct failure_table *table, const char *sqlstate)
{
    return strcmp(table->answer.sqlstate, sqlstate) == 0;
}

static int begin(struct failure_table *table)
{
    const struct buf *one = table->identity.len > 0 ? &table->identity : &table->look_for;
    char *sql = failure_pg_sql_begin(one->data, STATEMENT_TIMEOUT_MS);
    int result = run(table, sql);

    free(sql);
    if (answered(table, "55P03")) /* lock_not_available */
        error_wrap(&table->answer.err,
                   "somebody else has long been writing a row of the same entry");
    return result;
}

static int insert(struct failure_table *table)
{
    const char *const values[] = {table->body.data, table->headers.data,  table->queue_name,
                                  table->now,       table->timezone,      table->available,
                                  table->or_at,     table->look_for.data, table->identity.data};
    const char *sql = table->looks ? table->sql.insert_unless : table->sql.insert;
    int result = failure_pg_run(table->pg, sql, values, table->looks ? 9 : 5, &table->answer);

    if (answered(table, "55P03")) /* lock_not_available */
        error_wrap(&table->answer.err, "somebody else has locked the table");
    else if (answered(table, "22023")) /* invalid_parameter_value */
        error_wrap(&table->answer.err, "[failure] timezone");
    else if (table->looks && answered(table, "57014")) /* query_canceled */
        error_wrap(&table->answer.err,
                   "looking for a row of the same entry takes too long; the table needs "
                   "Doctrine's index on (queue_name, available_at, delivered_at, id)");
    return result;
}

/* To look and to insert are two steps for everybody else, unless one at a time does them: whoever writes
 * the row of the same entry waits for our transaction, and then sees it. */
static int look_and_insert(struct failure_table *table)
{
    int result;

    if (!table->looks)
        return insert(table);
    result = begin(table);
    if (result == 0)
        result = insert(table);
    if (result == 0)
        result = run(table, "COMMIT");
    return result;
}

/* Did somebody who does not know our lock (PHP) make it at the same time? */
static bool was_overtaken(const struct failure_table *table)
{
    return answered(table, "23505") || /* unique_violation, in the catalogue */
           answered(table, "42P07") || /* duplicate_table */
           answered(table, "42710") || /* duplicate_object */
           answered(table, "42723") || /* duplicate_function */
           answered(table, "XX000");   /* "tuple concurrently updated" */
}

/* True if the table is there now. */
static bool make_table(struct failure_table *table)
{
    if (!table->auto_setup) {
        error_wrap(&table->answer.err, "auto_setup is off and the table is missing");
        return false;
    }
    failure_pg_close(table->pg); /* and with it the transaction, if there is one */
    if (run(table, table->sql.setup) == 0 || was_overtaken(table))
        return true;
    error_wrap(&table->answer.err, "the table cannot be made");
    return false;
}

/* True if the next id is one that no row has: it was not, where Doctrine has made the column anew. */
static bool count_on(struct failure_table *table)
{
    failure_pg_close(table->pg);
    return run(table, table->sql.count_on) == 0;
}

/* Can the row be written after all? */
static bool mend(struct failure_table *table, int *setups)
{
    /* unique_violation: of the id, as nothing else is unique */
    if (answered(table, "23505"))
        return (*setups)++ < SETUPS_MAX && count_on(table);
    /* untranslatable_character, character_not_in_repertoire */
    if ((answered(table, "22P05") || answered(table, "22021")) && !table->in_ascii) {
        failure_pg_close(table->pg);
        write_in_ascii(table);
        return true;
    }
    /* undefined_table */
    return answered(table, "42P01") && (*setups)++ < SETUPS_MAX && make_table(table);
}

static int table_write(void *state, const struct failure_row *row, struct error *err)
{
    struct failure_table *table = state;
    int setups = 0;

    if (!fits_text_column(row->headers))
        return error_set(
            err, ERR_REFUSED,
            "the failure transport cannot take an entry whose headers hold a NUL byte or are not "
            "UTF-8");
    copy_row(table, row);
    while (look_and_insert(table) < 0 && mend(table, &setups))
        ;
    free_row(table);
    if (table->answer.err.code != ERR_NONE)
        failure_pg_close(table->pg);
    *err = table->answer.err;
    return -(int)err->code;
}

/* Counting in a table that is not there yet would be an error in the server's log each time. */
static int table_count(void *state, int64_t *count, struct error *err)
{
    struct failure_table *table = state;
    const char *values[] = {table->queue_name};

    *count = 0;
    if (failure_pg_run(table->pg, table->sql.exists, NULL, 0, &table->answer) == 0 &&
        table->answer.number > 0)
        failure_pg_run(table->pg, table->sql.count, values, 1, &table->answer);
    if (answered(table, "42P01")) /* undefined_table: it has just been dropped */
        return 0;
    *count = table->answer.number;
    *err = table->answer.err;
    return -(int)err->code;
}

/* Leaves a table that is there as it is: Doctrine makes it in more ways than one. */
static int table_set_up(void *state, int64_t *made, struct error *err)
{
    struct failure_table *table = state;
    int result = failure_pg_run(table->pg, table->sql.exists, NULL, 0, &table->answer);

    if (result == 0 && table->answer.number == 0) {
        result = run(table, table->sql.setup);
        *made = result == 0;
        if (was_overtaken(table))
            return 0;
    }
    *err = table->answer.err;
    return result;
}

const struct failure_store FAILURE_TABLE = {.new = table_new,
                                            .write = table_write,
                                            .count = table_count,
                                            .set_up = table_set_up,
                                            .free = table_free};
