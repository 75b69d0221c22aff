#include "common/client/failure.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/offload.h"
#include "common/wire/dsn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

typedef int store_question(void *state, int64_t *number, struct error *err);

/* A job: writing a row, or asking a question (count, set_up). While the job runs, only the thread
 * uses the struct. */
struct job {
    const struct failure_store *store;
    void *state;
    struct buf body, headers, dedupe_key, identity;
    int64_t entry_us;
    store_question *question;
    int64_t number; /* the question's answer */
    int result;
    struct error err;
};

struct failure {
    const struct failure_store *store;
    struct job *job;      /* NULL: the thread has it */
    struct offload *call; /* NULL: no job is under way */
    struct buf address;
};

static void free_row(struct job *job)
{
    buf_free(&job->body);
    buf_free(&job->headers);
    buf_free(&job->dedupe_key);
    buf_free(&job->identity);
}

static void free_job(void *data)
{
    struct job *job = data;

    if (job->state != NULL)
        job->store->free(job->state);
    free_row(job);
    free(job);
}

static int check(const struct settings_failure *settings, struct error *err)
{
    if (settings->dsn[0] == '\0')
        return error_set(err, ERR_USAGE,
                         "[failure] dsn (DATABASE_URL) is not set: there is no failure "
                         "transport");
    return settings_check_failure(settings, NULL, err);
}

static const struct failure_store *store_of(const struct settings_failure *settings)
{
    return dsn_is_redis(settings->dsn) ? &FAILURE_STREAM : &FAILURE_TABLE;
}

int failure_new(struct failure **failure, const struct settings_failure *settings,
                struct error *err)
{
    int result = check(settings, err);

    if (result < 0)
        return result;
    struct job *job = xcalloc(1, sizeof(*job));
    job->store = store_of(settings);
    result = job->store->new (&job->state, settings, NULL, err);
    if (result < 0) {
        free_job(job);
        return result;
    }
    *failure = xcalloc(1, sizeof(**failure));
    (*failure)->store = job->store;
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

static void write_row(void *data)
{
    struct job *job = data;
    const struct failure_row row = {.body = buf_bytes(&job->body),
                                    .headers = buf_bytes(&job->headers),
                                    .dedupe_key = buf_bytes(&job->dedupe_key),
                                    .identity = buf_bytes(&job->identity),
                                    .entry_us = job->entry_us};

    job->result = job->store->write(job->state, &row, &job->err);
    free_row(job);
}

int failure_write(struct failure *failure, const struct failure_row *row, struct error *err)
{
    if (failure->call != NULL)
        abort();
    struct job *job = failure->job;
    buf_append(&job->body, row->body);
    buf_append(&job->headers, row->headers);
    buf_append(&job->dedupe_key, row->dedupe_key);
    buf_append(&job->identity, row->identity);
    job->entry_us = row->entry_us;
    int result = start(failure, write_row, err);
    if (result < 0)
        free_row(job);
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
    *err = failure->job->err;
    return true;
}

/* Waits for the thread. Returns false if the thread still has the job at until_ms. */
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

static void answer(void *data)
{
    struct job *job = data;

    job->number = 0;
    job->result = job->question(job->state, &job->number, &job->err);
}

/* Asks the question in a thread and waits for the answer. */
static int ask(struct failure *failure, store_question *question, int64_t timeout_ms,
               int64_t *number, struct error *err)
{
    int64_t until_ms = clock_monotonic_ms() + timeout_ms;
    /* An earlier job that ran into its time-out may still run. */
    bool in_time = wait_for_job(failure, until_ms);

    *number = 0;
    if (in_time) {
        failure->job->question = question;
        int result = start(failure, answer, err);

        if (result < 0)
            return result;
        in_time = wait_for_job(failure, until_ms);
    }
    if (!in_time)
        return error_set(err, ERR_UNREACHABLE, "%s: no answer within %lld ms",
                         buf_text(&failure->address), (long long)timeout_ms);
    if (failure->job->result < 0)
        *err = failure->job->err;
    else
        *number = failure->job->number;
    return failure->job->result;
}

int failure_count(struct failure *failure, int64_t timeout_ms, int64_t *count, struct error *err)
{
    return ask(failure, failure->store->count, timeout_ms, count, err);
}

int failure_set_up(struct failure *failure, int64_t timeout_ms, int64_t *made, struct error *err)
{
    return ask(failure, failure->store->set_up, timeout_ms, made, err);
}

int failure_admin_new(struct failure_admin **admin, const struct settings_failure *settings,
                      struct error *err)
{
    struct failure_admin made = {.store = store_of(settings)};
    int result = check(settings, err);

    if (result == 0)
        result = made.store->new (&made.state, settings, settings->timezone, err);
    if (result < 0)
        return result;
    *admin = xmalloc(sizeof(**admin));
    **admin = made;
    return 0;
}

void failure_admin_free(struct failure_admin *admin)
{
    if (admin == NULL)
        return;
    admin->store->free(admin->state);
    free(admin);
}
