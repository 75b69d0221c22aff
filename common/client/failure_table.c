/* The failure transport in PostgreSQL: Doctrine's table. */
#include "common/client/failure.h"

#include "common/base/alloc.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/wire/base64.h"
#include "common/wire/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETUPS_MAX     3
#define SPREAD_S       16
#define FORMER_S       (365 * 86400)               /* in 1970 */
#define TIME_MAX_US    INT64_C(253402300799000000) /* the year 9999 */
#define TIME_TEXT_SIZE 20                          /* "2026-11-24 10:00:00" */
/* The server must end a statement before the time-out here: a statement that waits for a lock
 * must not run later. */
#define STATEMENT_TIMEOUT_MS (FAILURE_PG_STATEMENT_MS - 1000)
#define ALL_OF_IT            "9223372036854775807"

struct failure_table {
    struct failure_pg *pg;
    struct failure_pg_sql sql;
    char *queue_name;
    char *timezone;
    bool auto_setup;
    char *begin_taking; /* begins a transaction that holds the operators' lock */

    /* The row that is being written: */
    bool deduplicates; /* dedupe_key is set, and a text column can hold it */
    bool in_ascii;     /* the database's encoding can't hold the row as it is */
    struct buf body;
    struct buf headers;
    struct buf dedupe_key; /* empty: no search */
    struct buf identity;   /* empty: unknown */
    char now[TIME_TEXT_SIZE];
    char available[TIME_TEXT_SIZE];
    char or_at[TIME_TEXT_SIZE];
    struct failure_pg_answer answer; /* of the last statement */
};

static bool fits_text_column(struct bytes text)
{
    return (text.len == 0 || memchr(text.data, '\0', text.len) == NULL) && bytes_is_utf8(text);
}

static void free_row(struct failure_table *table)
{
    buf_free(&table->body);
    buf_free(&table->headers);
    buf_free(&table->dedupe_key);
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
    free(table->begin_taking);
    free(table);
}

static int table_new(void **state, const struct settings_failure *settings, const char *timezone,
                     struct error *err)
{
    struct failure_table *table = xcalloc(1, sizeof(*table));
    char *rows = xasprintf("%s %s", settings->table, settings->queue_name);
    int result = failure_pg_sql_make(&table->sql, settings->table, err);

    table->begin_taking = failure_pg_sql_begin(rows, STATEMENT_TIMEOUT_MS);
    free(rows);
    table->queue_name = xstrdup(settings->queue_name);
    table->timezone = xstrdup(settings->timezone);
    table->auto_setup = settings->auto_setup;
    if (result == 0) {
        result = failure_pg_new(&table->pg, settings->dsn, timezone, err);
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

/* PHP's reader decodes a body as base64 if it does not end in `}`. */
static void copy_in_base64(struct buf *to, struct bytes bytes)
{
    base64_encode(to, bytes);
    buf_text(to);
}

/* Sets the row's time of availability, by which rows are found: the entry's time. Some seconds
 * are subtracted, so that the rows of one second need not all be searched. PHP would not see a
 * row of the future, so that such a row gets a past time. By another host's clock the choice may
 * differ, so that both times are searched. */
static void set_times(struct failure_table *table, int64_t entry_us, int64_t now_us)
{
    uint32_t hash = bytes_crc32c(0, table->dedupe_key.data, table->dedupe_key.len);
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
    /* A text that no column can hold can't be found. Without a search two rows may result, which
     * is better than none. */
    table->deduplicates = row->dedupe_key.len > 0 && fits_text_column(row->dedupe_key);
    copy(&table->dedupe_key, table->deduplicates ? row->dedupe_key : BYTES_NONE);
    copy(&table->identity, fits_text_column(row->identity) ? row->identity : BYTES_NONE);
    format_time(table->now, now);
    set_times(table, row->entry_us, now);
    table->in_ascii = false;
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] >= 0x80)
            return false;
    return true;
}

/* Converts the row to ASCII, for a database whose encoding lacks some characters. */
static void write_in_ascii(struct failure_table *table)
{
    struct buf body = table->body, headers = table->headers;

    table->body = (struct buf){0};
    table->headers = (struct buf){0};
    table->in_ascii = true;
    if (is_ascii(buf_bytes(&body))) /* true for base64 too */
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

static int tell(const struct failure_table *table, struct error *err)
{
    if (err != NULL)
        *err = table->answer.err;
    return -(int)table->answer.err.code;
}

/* Sets answer.number, which tells whether the table exists. A query to a missing table would log
 * an error in the server. */
static int find_table(struct failure_table *table)
{
    return failure_pg_run(table->pg, table->sql.exists, NULL, 0, &table->answer);
}

static int begin(struct failure_table *table)
{
    const struct buf *one = table->identity.len > 0 ? &table->identity : &table->dedupe_key;
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
    const char *const values[] = {table->body.data, table->headers.data,    table->queue_name,
                                  table->now,       table->timezone,        table->available,
                                  table->or_at,     table->dedupe_key.data, table->identity.data};
    const char *sql = table->deduplicates ? table->sql.insert_unless : table->sql.insert;
    int result =
        failure_pg_run(table->pg, sql, values, table->deduplicates ? 9 : 5, &table->answer);

    if (answered(table, "55P03")) /* lock_not_available */
        error_wrap(&table->answer.err, "somebody else has locked the table");
    else if (answered(table, "22023")) /* invalid_parameter_value */
        error_wrap(&table->answer.err, "[failure] timezone");
    else if (table->deduplicates && answered(table, "57014")) /* query_canceled */
        error_wrap(&table->answer.err,
                   "the search for a row of the same entry takes too long; the table needs "
                   "Doctrine's index on (queue_name, available_at, delivered_at, id)");
    return result;
}

/* Searches for the row and inserts it if there is none, in a transaction with a lock for each entry. Another worker
 * with a row of this entry waits for the commit, and then finds the row. */
static int insert_once(struct failure_table *table)
{
    int result;

    if (!table->deduplicates)
        return insert(table);
    result = begin(table);
    if (result == 0)
        result = insert(table);
    if (result == 0)
        result = run(table, "COMMIT");
    return result;
}

/* True if another program such as PHP has just made the table: such programs don't use the
 * bridge's lock. */
static bool was_overtaken(const struct failure_table *table)
{
    return answered(table, "23505") || /* unique_violation, in the catalogue */
           answered(table, "42P07") || /* duplicate_table */
           answered(table, "42710") || /* duplicate_object */
           answered(table, "42723") || /* duplicate_function */
           answered(table, "XX000");   /* "tuple concurrently updated" */
}

/* Makes the table. Returns true if the table exists now. */
static bool make_table(struct failure_table *table)
{
    if (!table->auto_setup) {
        error_wrap(&table->answer.err, "auto_setup is off and the table is missing");
        return false;
    }
    failure_pg_close(table->pg); /* ends an open transaction too */
    if (run(table, table->sql.setup) == 0 || was_overtaken(table))
        return true;
    error_wrap(&table->answer.err, "the table cannot be made");
    return false;
}

/* Sets the next id above all rows' ids: it is too low if Doctrine has made the column anew.
 * Returns true after a success. */
static bool count_on(struct failure_table *table)
{
    failure_pg_close(table->pg);
    return run(table, table->sql.count_on) == 0;
}

/* Tries to repair the cause of the last error. Returns true if the row can be written again. */
static bool repair(struct failure_table *table, int *setups)
{
    /* unique_violation: only the id is unique */
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
    while (insert_once(table) < 0 && repair(table, &setups))
        ;
    free_row(table);
    if (table->answer.err.code != ERR_NONE)
        failure_pg_close(table->pg);
    return tell(table, err);
}

static int table_count(void *state, int64_t *count, struct error *err)
{
    struct failure_table *table = state;
    const char *values[] = {table->queue_name};

    *count = 0;
    if (find_table(table) == 0 && table->answer.number > 0)
        failure_pg_run(table->pg, table->sql.count, values, 1, &table->answer);
    if (answered(table, "42P01")) /* undefined_table: dropped just now */
        return 0;
    *count = table->answer.number;
    return tell(table, err);
}

/* Makes a missing table. An existing one stays unchanged, since Doctrine makes tables in
 * different ways. */
static int table_set_up(void *state, int64_t *made, struct error *err)
{
    struct failure_table *table = state;
    int result = find_table(table);

    if (result == 0 && table->answer.number == 0) {
        result = run(table, table->sql.setup);
        *made = result == 0;
        if (was_overtaken(table))
            return 0;
    }
    return tell(table, err);
}

static bool table_is_id(struct bytes id)
{
    uint64_t number;

    return bytes_to_u64(id, &number) && number <= INT64_MAX && (id.data[0] != '0' || id.len == 1);
}

/* Returns PostgreSQL's array of numbers, "{1,2}". The ids were checked to be numbers. */
static char *array_of(const struct bytes *ids, size_t len)
{
    struct buf array = {0};

    buf_append_char(&array, '{');
    for (size_t i = 0; i < len; i++) {
        if (i > 0)
            buf_append_char(&array, ',');
        buf_append(&array, ids[i]);
    }
    buf_append_char(&array, '}');
    return buf_take_text(&array);
}

struct reading {
    failure_visit *visit;
    void *context;
};

static bool give(void *context, const struct bytes *columns)
{
    const struct reading *reading = context;
    char guard[64];
    uint64_t size = 0;

    (void)bytes_to_u64(columns[FAILURE_PG_SIZE], &size);
    snprintf(guard, sizeof(guard), "%.*s-%.*s", BYTES_ARG(columns[FAILURE_PG_ID]),
             BYTES_ARG(columns[FAILURE_PG_WRITTEN_US]));
    const struct failure_message message = {
        .id = columns[FAILURE_PG_ID],
        .body = columns[FAILURE_PG_BODY],
        .headers = columns[FAILURE_PG_HEADERS],
        .size = (size_t)size,
        .failed_us = columns[FAILURE_PG_CREATED_US].len > 0
                         ? strtoll(columns[FAILURE_PG_CREATED_US].data, NULL, 10)
                         : 0,
        .taken = bytes_equal_text(columns[FAILURE_PG_TAKEN], "t"),
        .guard = bytes_of(guard),
    };
    return reading->visit(reading->context, &message);
}

static int table_list(void *state, const struct failure_query *query, failure_visit *visit,
                      void *context, struct error *err)
{
    struct failure_table *table = state;
    char *ids = query->ids != NULL ? array_of(query->ids, query->ids_len) : NULL;
    char since[24], until[24], limit[24], body_most[24];
    const char *values[] = {table->queue_name,
                            since,
                            until,
                            ids,
                            query->limit > 0 ? limit : NULL,
                            query->without_body ? "-1" : body_most};
    const char *sql = query->newest_first ? table->sql.list_newest : table->sql.list_oldest;
    struct reading reading = {visit, context};

    snprintf(since, sizeof(since), "%" PRId64, query->since_us);
    snprintf(until, sizeof(until), "%" PRId64, query->until_us);
    snprintf(limit, sizeof(limit), "%" PRId64, query->limit);
    snprintf(body_most, sizeof(body_most), "%" PRId64,
             query->body_most > 0 ? query->body_most : INT64_MAX);
    if (find_table(table) == 0 && table->answer.number > 0)
        (void)failure_pg_rows(table->pg, sql, values, 6, give, &reading, &table->answer);
    free(ids);
    /* undefined_table: the table was dropped just now. */
    return answered(table, "42P01") ? 0 : tell(table, err);
}

static int table_take(void *state, const struct failure_wanted *wanted, failure_visit *visit,
                      void *context, struct error *err)
{
    struct failure_table *table = state;
    char *ids = array_of(wanted->ids, wanted->len);
    const char *values[] = {table->queue_name, ids, wanted->taken_too ? "t" : "f",
                            wanted->without_body ? "-1" : ALL_OF_IT};
    struct reading reading = {visit, context};
    int result = run(table, table->begin_taking);

    if (answered(table, "55P03")) /* lock_not_available */
        error_set(&table->answer.err, ERR_UNREACHABLE,
                  "another `failed retry` or `failed remove` has rows in hand, and does not go on: "
                  "wait for its end, or end it");
    if (result == 0)
        result =
            failure_pg_rows(table->pg, table->sql.take, values, 4, give, &reading, &table->answer);
    free(ids);
    if (result < 0)
        failure_pg_close(table->pg);
    return result < 0 ? tell(table, err) : 0;
}

/* Removes the rows and commits. After the loss of the connection with the locks, removes over a
 * new one without a transaction: the messages were sent. */
static int commit(struct failure_table *table, const char *array, int64_t *removed)
{
    const char *values[] = {table->queue_name, array};
    int result = failure_pg_run(table->pg, table->sql.remove, values, 2, &table->answer);

    if (result == -ERR_UNREACHABLE) {
        failure_pg_close(table->pg);
        result = failure_pg_run(table->pg, table->sql.remove, values, 2, &table->answer);
    }
    if (result < 0)
        return result;
    *removed = table->answer.number;
    return failure_pg_run(table->pg, "COMMIT", NULL, -1, &table->answer);
}

static int table_settle(void *state, const struct bytes *ids, size_t len, int64_t *removed,
                        struct error *err)
{
    struct failure_table *table = state;
    char *array = array_of(ids, len);
    int result = commit(table, array, removed);

    free(array);
    if (result < 0)
        failure_pg_close(table->pg);
    return result < 0 ? tell(table, err) : 0;
}

const struct failure_store FAILURE_TABLE = {.new = table_new,
                                            .free = table_free,
                                            .write = table_write,
                                            .count = table_count,
                                            .set_up = table_set_up,
                                            .is_id = table_is_id,
                                            .list = table_list,
                                            .take = table_take,
                                            .settle = table_settle};
