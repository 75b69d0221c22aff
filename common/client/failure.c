#include "common/client/failure.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"
#include "common/client/failure_pg.h"
#include "common/client/failure_sql.h"
#include "common/settings/settings_verify.h"
#include "common/wire/base64.h"
#include "common/wire/crc32c.h"
#include "common/wire/dsn.h"
#include "common/wire/json.h"

#include <errno.h>
#include <poll.h>
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

/* One row, and all that writing or counting needs. While that is done it is the thread's. */
struct job {
    struct failure_pg *pg;
    struct failure_sql sql;
    char *queue_name;
    bool auto_setup;
    bool looks;
    bool in_ascii; /* the database's encoding can't hold the row as it is */
    struct buf body;
    struct buf headers;
    struct buf look_for; /* empty: none */
    struct buf identity; /* empty: none */
    char now[TIME_TEXT_SIZE];
    char available[TIME_TEXT_SIZE];
    char or_at[TIME_TEXT_SIZE];
    int result;
    bool made;                       /* of set_up: the table was not there */
    struct failure_pg_answer answer; /* to the last statement */
};

struct failure {
    struct job *job;      /* NULL: the thread has it */
    struct offload *call; /* NULL: nothing is under way */
    struct buf address;
};

static bool fits_text_column(struct bytes text)
{
    return (text.len == 0 || memchr(text.data, '\0', text.len) == NULL) && bytes_is_utf8(text);
}

static void free_row(struct job *job)
{
    buf_free(&job->body);
    buf_free(&job->headers);
    buf_free(&job->look_for);
    buf_free(&job->identity);
}

static void free_job(void *data)
{
    struct job *job = data;

    failure_pg_free(job->pg);
    failure_sql_free(&job->sql);
    free_row(job);
    free(job->queue_name);
    free(job);
}

int failure_new(struct failure **failure, const struct settings_failure *settings,
                struct error *err)
{
    struct job *job;
    int result;

    if (settings->dsn[0] == '\0')
        return error_set(err, ERR_USAGE,
                         "[failure] dsn (DATABASE_URL) is not set: there is no failure "
                         "transport");
    result = settings_verify_failure(settings, NULL, err);
    if (result < 0)
        return result;
    job = xcalloc(1, sizeof(*job));
    job->queue_name = xstrdup(settings->queue_name);
    job->auto_setup = settings->auto_setup;
    result = failure_sql_make(&job->sql, settings->table, err);
    if (result == 0) {
        result = failure_pg_new(&job->pg, settings->dsn, err);
        if (result < 0)
            error_wrap(err, "[failure] dsn (DATABASE_URL)");
    }
    if (result < 0) {
        free_job(job);
        return result;
    }
    *failure = xcalloc(1, sizeof(**failure));
    (*failure)->job = job;
    dsn_redacted(&(*failure)->address, settings->dsn);
    return 0;
}

void failure_free(struct failure *failure)
{
    if (failure == NULL)
        return;
    offload_free(failure->call);
    if (failure->job != NULL)
        free_job(failure->job);
    buf_free(&failure->address);
    free(failure);
}

static int start(struct failure *failure, void (*work)(void *job), struct error *err)
{
    failure->call = offload_start(work, free_job, failure->job);
    if (failure->call == NULL)
        return error_set(err, ERR_UNREACHABLE, "no thread to ask %s: %s",
                         buf_text(&failure->address), strerror(errno));
    failure->job = NULL;
    return 0;
}

static bool take(struct failure *failure)
{
    if (failure->call == NULL || !offload_is_done(failure->call))
        return false;
    failure->job = offload_take(failure->call);
    failure->call = NULL;
    return true;
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
static void place_row(struct job *job, int64_t entry_us, int64_t now_us)
{
    uint32_t hash = crc32c(0, job->look_for.data, job->look_for.len);
    int64_t time_us = entry_us - (int64_t)(hash % SPREAD_S) * 1000000;
    int64_t former_us = (int64_t)(hash % FORMER_S) * 1000000;
    bool future = time_us > now_us;

    if (time_us < 0)
        time_us = 0;
    if (time_us > TIME_MAX_US)
        time_us = TIME_MAX_US;
    format_time(job->available, future ? former_us : time_us);
    format_time(job->or_at, future ? time_us : former_us);
}

static void copy_row(struct job *job, const struct failure_row *row)
{
    int64_t now = clock_wall_us();

    if (fits_text_column(row->body))
        copy(&job->body, row->body);
    else
        copy_in_base64(&job->body, row->body);
    copy(&job->headers, row->headers);
    /* What no column can hold is not there to be found: rather twice than never. */
    job->looks = row->look_for.len > 0 && fits_text_column(row->look_for);
    copy(&job->look_for, job->looks ? row->look_for : BYTES_NONE);
    copy(&job->identity, fits_text_column(row->identity) ? row->identity : BYTES_NONE);
    format_time(job->now, now);
    place_row(job, row->entry_us, now);
    job->in_ascii = false;
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] >= 0x80)
            return false;
    return true;
}

/* The same row for a database whose encoding lacks some of its characters. */
static void write_in_ascii(struct job *job)
{
    struct buf body = job->body, headers = job->headers;

    job->body = (struct buf){0};
    job->headers = (struct buf){0};
    job->in_ascii = true;
    if (is_ascii(buf_bytes(&body))) /* base64 already, perhaps */
        copy(&job->body, buf_bytes(&body));
    else if (bytes_starts_with(buf_bytes(&body), BYTES("{")) && json_is_valid(buf_bytes(&body)))
        json_to_ascii(&job->body, buf_bytes(&body));
    else
        copy_in_base64(&job->body, buf_bytes(&body));
    json_to_ascii(&job->headers, buf_bytes(&headers));
    buf_text(&job->body);
    buf_text(&job->headers);
    buf_free(&body);
    buf_free(&headers);
}

static int run(struct job *job, const char *sql)
{
    return failure_pg_run(job->pg, sql, NULL, -1, &job->answer);
}

static bool answered(const struct job *job, const char *sqlstate)
{
    return strcmp(job->answer.sqlstate, sqlstate) == 0;
}

static int begin(struct job *job)
{
    const struct buf *one = job->identity.len > 0 ? &job->identity : &job->look_for;
    char *sql = failure_sql_begin(one->data, STATEMENT_TIMEOUT_MS);
    int result = run(job, sql);

    free(sql);
    if (answered(job, "55P03")) /* lock_not_available */
        error_wrap(&job->answer.err, "somebody else has long been writing a row of the same entry");
    return result;
}

static int insert(struct job *job)
{
    const char *const values[] = {job->body.data,     job->headers.data, job->queue_name,
                                  job->now,           job->available,    job->or_at,
                                  job->look_for.data, job->identity.data};
    const char *sql = job->looks ? job->sql.insert_unless : job->sql.insert;
    int result = failure_pg_run(job->pg, sql, values, job->looks ? 8 : 4, &job->answer);

    if (answered(job, "55P03")) /* lock_not_available */
        error_wrap(&job->answer.err, "somebody else has locked the table");
    else if (job->looks && answered(job, "57014")) /* query_canceled */
        error_wrap(&job->answer.err,
                   "looking for a row of the same entry takes too long; the table needs "
                   "Doctrine's index on (queue_name, available_at, delivered_at, id)");
    return result;
}

/* To look and to insert are two steps for everybody else, unless one at a time does them: whoever writes
 * the row of the same entry waits for our transaction, and then sees it. */
static int look_and_insert(struct job *job)
{
    int result;

    if (!job->looks)
        return insert(job);
    result = begin(job);
    if (result == 0)
        result = insert(job);
    if (result == 0)
        result = run(job, "COMMIT");
    return result;
}

/* Did somebody who does not know our lock (PHP) make it at the same time? */
static bool was_overtaken(const struct job *job)
{
    return answered(job, "23505") || /* unique_violation, in the catalogue */
           answered(job, "42P07") || /* duplicate_table */
           answered(job, "42710") || /* duplicate_object */
           answered(job, "42723") || /* duplicate_function */
           answered(job, "XX000");   /* "tuple concurrently updated" */
}

/* True if the table is there now. */
static bool make_table(struct job *job)
{
    if (!job->auto_setup) {
        error_wrap(&job->answer.err, "auto_setup is off and the table is missing");
        return false;
    }
    failure_pg_close(job->pg); /* and with it the transaction, if there is one */
    if (run(job, job->sql.setup) == 0 || was_overtaken(job))
        return true;
    error_wrap(&job->answer.err, "the table cannot be made");
    return false;
}

/* True if the next id is one that no row has: it was not, where Doctrine has made the column anew. */
static bool count_on(struct job *job)
{
    failure_pg_close(job->pg);
    return run(job, job->sql.count_on) == 0;
}

/* Can the row be written after all? */
static bool mend(struct job *job, int *setups)
{
    /* unique_violation: of the id, as nothing else is unique */
    if (answered(job, "23505"))
        return (*setups)++ < SETUPS_MAX && count_on(job);
    /* untranslatable_character, character_not_in_repertoire */
    if ((answered(job, "22P05") || answered(job, "22021")) && !job->in_ascii) {
        failure_pg_close(job->pg);
        write_in_ascii(job);
        return true;
    }
    /* undefined_table */
    return answered(job, "42P01") && (*setups)++ < SETUPS_MAX && make_table(job);
}

static void write_row(void *data)
{
    struct job *job = data;
    int setups = 0;

    while (look_and_insert(job) < 0 && mend(job, &setups))
        ;
    job->result = -(int)job->answer.err.code;
    if (job->result < 0)
        failure_pg_close(job->pg);
    free_row(job);
}

int failure_write(struct failure *failure, const struct failure_row *row, struct error *err)
{
    if (failure->call != NULL)
        abort();
    if (!fits_text_column(row->headers))
        return error_set(
            err, ERR_REFUSED,
            "the failure transport cannot take an entry whose headers hold a NUL byte or are not "
            "UTF-8");
    copy_row(failure->job, row);
    int result = start(failure, write_row, err);
    if (result < 0)
        free_row(failure->job);
    return result;
}

int failure_fd(const struct failure *failure)
{
    return failure->call != NULL ? offload_fd(failure->call) : -1;
}

bool failure_take(struct failure *failure, int *result, struct error *err)
{
    if (!take(failure))
        return false;
    *result = failure->job->result;
    *err = failure->job->answer.err;
    return true;
}

/* Counting in a table that is not there yet would be an error in the server's log each time. */
static void count_rows(void *data)
{
    struct job *job = data;
    const char *values[] = {job->queue_name};

    job->result = failure_pg_run(job->pg, job->sql.exists, NULL, 0, &job->answer);
    if (job->result < 0 || job->answer.number == 0)
        return;
    job->result = failure_pg_run(job->pg, job->sql.count, values, 1, &job->answer);
    if (answered(job, "42P01")) /* undefined_table: it has just been dropped */
        job->result = 0;
}

/* Leaves a table that is there as it is: Doctrine makes it in more ways than one. */
static void set_up(void *data)
{
    struct job *job = data;

    job->result = failure_pg_run(job->pg, job->sql.exists, NULL, 0, &job->answer);
    job->made = false;
    if (job->result < 0 || job->answer.number != 0)
        return;
    job->result = run(job, job->sql.setup);
    job->made = job->result == 0;
    if (was_overtaken(job))
        job->result = 0;
}

/* False if the thread still has the job when time is up. */
static bool wait_for_job(struct failure *failure, int64_t until_ms)
{
    while (failure->call != NULL && !take(failure)) {
        struct pollfd waiting = {.fd = offload_fd(failure->call), .events = POLLIN};
        int64_t now_ms = clock_monotonic_ms();

        if (now_ms >= until_ms)
            return false;
        poll(&waiting, 1, clock_poll_timeout(until_ms, now_ms));
    }
    return true;
}

/* Of work that sets job->result. */
static int run_and_wait(struct failure *failure, void (*work)(void *job), int64_t timeout_ms,
                        struct error *err)
{
    int64_t until_ms = clock_monotonic_ms() + timeout_ms;
    bool in_time = wait_for_job(failure, until_ms); /* an earlier one that was given up */

    if (in_time) {
        int result = start(failure, work, err);

        if (result < 0)
            return result;
        in_time = wait_for_job(failure, until_ms);
    }
    if (!in_time)
        return error_set(err, ERR_UNREACHABLE, "%s: no answer within %lld ms",
                         buf_text(&failure->address), (long long)timeout_ms);
    if (failure->job->result < 0 && err != NULL)
        *err = failure->job->answer.err;
    return failure->job->result;
}

int failure_count(struct failure *failure, int64_t timeout_ms, int64_t *count, struct error *err)
{
    int result = run_and_wait(failure, count_rows, timeout_ms, err);

    *count = result == 0 ? failure->job->answer.number : 0;
    return result;
}

int failure_set_up(struct failure *failure, int64_t timeout_ms, bool *made, struct error *err)
{
    int result = run_and_wait(failure, set_up, timeout_ms, err);

    *made = result == 0 && failure->job->made;
    return result;
}
