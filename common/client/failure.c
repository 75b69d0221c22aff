#include "common/client/failure.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_sql.h"
#include "common/wire/base64.h"
#include "common/wire/crc32c.h"
#include "common/wire/settings_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETUPS_MAX       3
#define SPREAD_S         16
#define FORMER_S         (365 * 86400)               /* in 1970 */
#define TIME_MAX_US      INT64_C(253402300799000000) /* the year 9999 */
#define TIME_TEXT_SIZE   20                          /* "2026-11-24 10:00:00" */
#define MEMORY_KEPT_MOST (1024 * 1024)
/* The server gives a statement up before we give the server up: one that waits for a lock must not run
 * when its asker has gone. */
#define STATEMENT_TIMEOUT_MS (FAILURE_PG_STATEMENT_MS - 1000)

enum failure_step {
    STEP_NONE,
    STEP_REFUSED, /* by ourselves */
    STEP_BEGIN,   /* a transaction, and the entry's lock */
    STEP_INSERT,
    STEP_COMMIT,
    STEP_SETUP,
};

enum {
    VALUE_BODY,
    VALUE_HEADERS,
    VALUE_QUEUE,
    VALUE_NOW,
    VALUE_AVAILABLE,
    VALUE_OR_AT,
    VALUE_LOOK_FOR,
    VALUES
};

struct failure {
    struct failure_pg *pg;
    struct failure_sql sql;
    char *queue_name;
    bool auto_setup;
    enum failure_step step;
    int setups; /* for the row in hand */
    struct buf body;
    struct buf headers;
    struct buf look_for;
    char now[TIME_TEXT_SIZE];
    char available[TIME_TEXT_SIZE];
    char or_at[TIME_TEXT_SIZE];
    const char *values[VALUES];
    char *begin; /* what STEP_BEGIN says */
    bool looks;
    struct error refused;
    failure_written *written;
    void *context;
};

static bool fits_text_column(struct bytes text)
{
    return (text.len == 0 || memchr(text.data, '\0', text.len) == NULL) && bytes_is_utf8(text);
}

int failure_new(struct failure **failure, const struct settings_failure *settings,
                struct error *err)
{
    struct failure *made;
    int result;

    if (settings->dsn[0] == '\0')
        return error_set(err, ERR_USAGE,
                         "[failure] dsn (DATABASE_URL) is not set: there is no failure "
                         "transport");
    result = settings_verify_failure(settings, err);
    if (result < 0)
        return result;
    made = xcalloc(1, sizeof(*made));
    made->queue_name = xstrdup(settings->queue_name);
    made->auto_setup = settings->auto_setup;
    result = failure_sql_make(&made->sql, settings->table, err);
    if (result == 0) {
        result = failure_pg_new(&made->pg, settings->dsn, err);
        if (result < 0)
            error_wrap(err, "[failure] dsn (DATABASE_URL)");
    }
    if (result < 0) {
        failure_free(made);
        return result;
    }
    *failure = made;
    return 0;
}

void failure_free(struct failure *failure)
{
    if (failure == NULL)
        return;
    failure_pg_free(failure->pg);
    failure_sql_free(&failure->sql);
    buf_free(&failure->body);
    buf_free(&failure->headers);
    buf_free(&failure->look_for);
    free(failure->begin);
    free(failure->queue_name);
    free(failure);
}

bool failure_is_busy(const struct failure *failure)
{
    return failure->step != STEP_NONE;
}

static void format_time(char text[TIME_TEXT_SIZE], int64_t wall_us)
{
    char with_us[CLOCK_TEXT_SIZE];

    clock_format_us(wall_us, with_us);
    snprintf(text, TIME_TEXT_SIZE, "%.10s %.8s", with_us, with_us + 11);
}

static void copy(struct buf *to, struct bytes bytes)
{
    if (to->capacity > MEMORY_KEPT_MOST)
        buf_free(to);
    buf_clear(to);
    buf_append(to, bytes);
    buf_text(to);
}

/* PHP's reader takes base64 for a body that does not end in `}`. */
static void copy_body(struct failure *failure, struct bytes body)
{
    if (fits_text_column(body)) {
        copy(&failure->body, body);
        return;
    }
    copy(&failure->body, BYTES_NONE);
    base64_encode(&failure->body, body);
    buf_text(&failure->body);
}

/* Where the row is looked for: at its entry's time, spread a little, so that what fails together in one second
 * need not be searched whole for each. One of the future would not be available to PHP before then; and when
 * that is, others may see differently: both places are looked at. */
static void place_row(struct failure *failure, int64_t entry_us, int64_t now_us)
{
    uint32_t hash = crc32c(0, failure->look_for.data, failure->look_for.len);
    int64_t time_us = entry_us - (int64_t)(hash % SPREAD_S) * 1000000;
    int64_t former_us = (int64_t)(hash % FORMER_S) * 1000000;
    bool future = time_us > now_us;

    if (time_us < 0)
        time_us = 0;
    if (time_us > TIME_MAX_US)
        time_us = TIME_MAX_US;
    format_time(failure->available, future ? former_us : time_us);
    format_time(failure->or_at, future ? time_us : former_us);
}

static void copy_row(struct failure *failure, const struct failure_row *row)
{
    int64_t now = clock_wall_us();

    copy_body(failure, row->body);
    copy(&failure->headers, row->headers);
    /* What no column can hold is not there to be found: rather twice than never. */
    failure->looks = row->look_for.len > 0 && fits_text_column(row->look_for);
    copy(&failure->look_for, failure->looks ? row->look_for : BYTES_NONE);
    format_time(failure->now, now);
    place_row(failure, row->entry_us, now);
    failure->values[VALUE_BODY] = failure->body.data;
    failure->values[VALUE_HEADERS] = failure->headers.data;
    failure->values[VALUE_QUEUE] = failure->queue_name;
    failure->values[VALUE_NOW] = failure->now;
    failure->values[VALUE_AVAILABLE] = failure->available;
    failure->values[VALUE_OR_AT] = failure->or_at;
    failure->values[VALUE_LOOK_FOR] = failure->look_for.data;
}

static void insert(struct failure *failure)
{
    failure->step = STEP_INSERT;
    if (failure->looks)
        failure_pg_run(failure->pg, failure->sql.insert_unless, failure->values, VALUES);
    else
        failure_pg_run(failure->pg, failure->sql.insert, failure->values, VALUE_NOW + 1);
}

/* To look and to insert are two steps for everybody else, unless one at a time does them: whoever writes
 * the row of the same entry waits for our transaction, and then sees it. */
static void begin(struct failure *failure)
{
    if (!failure->looks) {
        insert(failure);
        return;
    }
    free(failure->begin);
    failure->begin = failure_sql_begin(failure->look_for.data, STATEMENT_TIMEOUT_MS);
    failure->step = STEP_BEGIN;
    failure_pg_run(failure->pg, failure->begin, NULL, -1);
}

void failure_write(struct failure *failure, const struct failure_row *row, failure_written *written,
                   void *context)
{
    if (failure->step != STEP_NONE)
        abort();
    failure->written = written;
    failure->context = context;
    failure->setups = 0;
    if (!fits_text_column(row->headers)) {
        error_set(
            &failure->refused, ERR_REFUSED,
            "the failure transport cannot take an entry whose headers hold a NUL byte or are not "
            "UTF-8");
        failure->step = STEP_REFUSED;
        return;
    }
    copy_row(failure, row);
    begin(failure);
}

int failure_fd(const struct failure *failure)
{
    return failure_pg_fd(failure->pg);
}

short failure_events(const struct failure *failure)
{
    return failure_pg_events(failure->pg);
}

int64_t failure_deadline_ms(const struct failure *failure)
{
    if (failure->step == STEP_REFUSED)
        return 0;
    return failure_pg_deadline_ms(failure->pg);
}

static void finish(struct failure *failure, int result, const struct error *err)
{
    failure->step = STEP_NONE;
    failure->written(failure->context, result, err);
}

static bool is(const struct failure_pg_outcome *outcome, const char *sqlstate)
{
    return strcmp(outcome->sqlstate, sqlstate) == 0;
}

static void fail(struct failure *failure, struct failure_pg_outcome *outcome)
{
    failure_pg_break(failure->pg); /* and with it the transaction, if there is one */
    finish(failure, outcome->result, &outcome->err);
}

static void after_begin(struct failure *failure, struct failure_pg_outcome *outcome)
{
    if (outcome->result == 0) {
        insert(failure);
        return;
    }
    if (is(outcome, "55P03")) /* lock_not_available */
        error_wrap(&outcome->err, "somebody else has long been writing a row of the same entry");
    fail(failure, outcome);
}

static void explain_slowness(const struct failure *failure, struct failure_pg_outcome *outcome)
{
    if (is(outcome, "55P03")) /* lock_not_available */
        error_wrap(&outcome->err, "somebody else has locked the table");
    else if (failure->looks && is(outcome, "57014")) /* query_canceled */
        error_wrap(&outcome->err,
                   "looking for a row of the same entry takes too long; the table needs "
                   "Doctrine's index on (queue_name, available_at, delivered_at, id)");
}

static void after_insert(struct failure *failure, struct failure_pg_outcome *outcome)
{
    if (outcome->result == 0 && failure->looks) {
        failure->step = STEP_COMMIT;
        failure_pg_run(failure->pg, "COMMIT", NULL, -1);
        return;
    }
    if (outcome->result == 0) {
        finish(failure, 0, NULL);
        return;
    }
    if (!is(outcome, "42P01")) { /* undefined_table */
        explain_slowness(failure, outcome);
        fail(failure, outcome);
        return;
    }
    if (!failure->auto_setup) {
        error_wrap(&outcome->err, "auto_setup is off and the table is missing");
        fail(failure, outcome);
        return;
    }
    if (failure->setups == SETUPS_MAX) {
        fail(failure, outcome);
        return;
    }
    failure->setups++;
    failure->step = STEP_SETUP;
    failure_pg_run(failure->pg, failure->sql.setup, NULL, -1);
}

/* Did somebody who does not know our lock (PHP) make it at the same time? */
static bool was_overtaken(const struct failure_pg_outcome *outcome)
{
    return is(outcome, "23505") || /* unique_violation, in the catalogue */
           is(outcome, "42P07") || /* duplicate_table */
           is(outcome, "42710") || /* duplicate_object */
           is(outcome, "42723") || /* duplicate_function */
           is(outcome, "XX000");   /* "tuple concurrently updated" */
}

static void after_setup(struct failure *failure, struct failure_pg_outcome *outcome)
{
    if (outcome->result < 0 && !was_overtaken(outcome)) {
        error_wrap(&outcome->err, "the table cannot be made");
        fail(failure, outcome);
        return;
    }
    begin(failure);
}

static void after_commit(struct failure *failure, struct failure_pg_outcome *outcome)
{
    if (outcome->result < 0)
        fail(failure, outcome);
    else
        finish(failure, 0, NULL);
}

void failure_process(struct failure *failure)
{
    struct failure_pg_outcome outcome;

    switch (failure->step) {
    case STEP_NONE:
        return;
    case STEP_REFUSED:
        finish(failure, -ERR_REFUSED, &failure->refused);
        return;
    case STEP_BEGIN:
        if (failure_pg_process(failure->pg, &outcome))
            after_begin(failure, &outcome);
        return;
    case STEP_INSERT:
        if (failure_pg_process(failure->pg, &outcome))
            after_insert(failure, &outcome);
        return;
    case STEP_COMMIT:
        if (failure_pg_process(failure->pg, &outcome))
            after_commit(failure, &outcome);
        return;
    case STEP_SETUP:
        if (failure_pg_process(failure->pg, &outcome))
            after_setup(failure, &outcome);
        return;
    }
}
