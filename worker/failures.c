#include "worker/failures.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/client/failure.h"
#include "worker/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

/* What may wait here while the failure transport is away. */
#define WAITING_MAX       1024
#define WAITING_BYTES_MAX (64 * 1024 * 1024)
#define REFUSED_MS        10000 /* until a row that the database refused is tried again */
#define REFUSED_PAUSE_MS  250   /* until the next row is tried: the database may refuse all */
#define STOP_LIMIT_MS     1500  /* stopped, and no row is committed: the entries stay pending */

struct row {
    struct entry *entry; /* NULL: its connection was lost while the row was being written */
    char name[ENTRY_NAME_SIZE];
    struct buf identity;
    struct buf body;
    struct buf headers;
    int64_t again_ms; /* refused: not before then */
    struct row *next; /* utlist.h */
    struct row *prev;
};

struct failures {
    struct failure *failure;
    failures_done *done;
    struct row *waiting;
    struct row
        *refused; /* tried again when none is waiting; the one that is due first is the head */
    struct row *under_way; /* NULL: none */
    int64_t again_ms;      /* the database is asked not before then */
    size_t len;            /* rows waiting, refused and under way */
    size_t bytes;
    bool stopped;
    int64_t stop_deadline_ms; /* stopped: not waited for any longer */
    struct clock_backoff backoff;
    char trouble[160];
    struct log_fault fault;
};

int failures_new(struct failures **failures, const struct settings_failure *settings,
                 failures_done *done, struct error *err)
{
    struct failures *made = xcalloc(1, sizeof(*made));

    made->done = done;
    made->backoff = (struct clock_backoff){.minimum_ms = 200, .maximum_ms = 10000};
    if (settings->dsn[0] != '\0' && failure_new(&made->failure, settings, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    *failures = made;
    return 0;
}

static void row_free(struct failures *failures, struct row *row)
{
    failures->len--;
    failures->bytes -= row->body.len + row->headers.len;
    buf_free(&row->identity);
    buf_free(&row->body);
    buf_free(&row->headers);
    free(row);
}

/* True if the entry is of that source; NULL: of any. */
static bool drop_entry(struct row *row, const struct source *source)
{
    struct entry *entry = row->entry;

    if (entry == NULL || (source != NULL && entry->source != source))
        return false;
    source_release(entry);
    row->entry = NULL;
    return true;
}

static void drop_rows(struct failures *failures, struct row **rows, const struct source *source)
{
    struct row *next;

    for (struct row *row = *rows; row != NULL; row = next) {
        next = row->next;
        if (!drop_entry(row, source))
            continue;
        DL_DELETE(*rows, row);
        row_free(failures, row);
    }
}

/* No row waits here any more, so this worker no longer reports the failure transport as faulty. */
static void forget_trouble(struct failures *failures)
{
    if (failures->len > 0)
        return;
    failures->trouble[0] = '\0';
    failures->fault = (struct log_fault){0};
    failures->stop_deadline_ms = clock_monotonic_ms() + STOP_LIMIT_MS;
    clock_backoff_reset(&failures->backoff);
}

/* The row under way is still written: its entry alone is released. */
void failures_forget(struct failures *failures, const struct source *source)
{
    drop_rows(failures, &failures->waiting, source);
    drop_rows(failures, &failures->refused, source);
    if (failures->under_way != NULL)
        drop_entry(failures->under_way, source);
    forget_trouble(failures);
}

void failures_free(struct failures *failures)
{
    if (failures == NULL)
        return;
    failure_free(failures->failure);
    failures_forget(failures, NULL);
    if (failures->under_way != NULL)
        row_free(failures, failures->under_way);
    free(failures);
}

bool failures_exist(const struct failures *failures)
{
    return failures->failure != NULL;
}

void failures_add(struct failures *failures, struct entry *entry, const char *name,
                  struct buf *identity, struct buf *body, struct buf *headers)
{
    struct row *row = xcalloc(1, sizeof(*row));

    *row = (struct row){.entry = entry, .identity = *identity, .body = *body, .headers = *headers};
    snprintf(row->name, sizeof(row->name), "%s", name);
    *identity = (struct buf){0};
    *body = (struct buf){0};
    *headers = (struct buf){0};
    failures->len++;
    failures->bytes += row->body.len + row->headers.len;
    DL_APPEND(failures->waiting, row);
}

/* While a refused row is left the trouble stays. */
static void note_success(struct failures *failures)
{
    clock_backoff_reset(&failures->backoff);
    failures->stop_deadline_ms = clock_monotonic_ms() + STOP_LIMIT_MS;
    if (failures->trouble[0] == '\0' || failures->refused != NULL)
        return;
    failures->trouble[0] = '\0';
    log_fault_over(&failures->fault, LOG_PLAIN, "The failure transport takes messages again");
}

/* A refused row costs a short pause only: the others must not wait for a growing back-off because of it. */
static void note_trouble(struct failures *failures, int result, const struct error *err)
{
    int64_t pause_ms =
        result == -ERR_REFUSED ? REFUSED_PAUSE_MS : clock_backoff_next(&failures->backoff);

    failures->again_ms = clock_monotonic_ms() + pause_ms;
    failures->stop_deadline_ms = 0;
    snprintf(failures->trouble, sizeof(failures->trouble), "failure transport: %s", err->text);
    log_fault(
        &failures->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
        "The failure transport takes no messages: %s. They stay in the stream, unacknowledged",
        err->text);
}

static void finish_row(struct failures *failures, int result, const struct error *err)
{
    struct row *row = failures->under_way;
    struct entry *entry = row->entry;

    failures->under_way = NULL;
    if (result == 0 || entry == NULL) {
        row_free(failures, row);
    } else if (result == -ERR_REFUSED) {
        row->again_ms = clock_monotonic_ms() + REFUSED_MS;
        DL_APPEND(failures->refused, row);
    } else {
        DL_APPEND(failures->waiting, row);
    }
    if (result < 0) {
        note_trouble(failures, result, err);
        forget_trouble(failures);
        return;
    }
    note_success(failures);
    if (entry != NULL)
        failures->done(entry);
}

/* NULL: nothing may be written now. */
static struct row *take_next(struct failures *failures, int64_t now_ms)
{
    struct row **rows = failures->waiting != NULL ? &failures->waiting : &failures->refused;
    struct row *row = *rows;

    if (failures->under_way != NULL || now_ms < failures->again_ms)
        return NULL;
    if (row == NULL || now_ms < row->again_ms)
        return NULL;
    DL_DELETE(*rows, row);
    return row;
}

/* The time in the entry's id. A client may have chosen the id, so it may be any number. */
static int64_t entry_time_us(const struct entry *entry)
{
    return entry->id.ms < INT64_MAX / 1000 ? (int64_t)entry->id.ms * 1000 : INT64_MAX;
}

/* The row may have been written already: by a worker that died or took the entry over, or with an answer that was lost.
 * So the row has a dedupe key, the header that names the entry. Rows of versions with other names are not found. */
void failures_step(struct failures *failures, int64_t now_ms)
{
    struct row *row = take_next(failures, now_ms);
    char dedupe_key[ENTRY_NAME_SIZE + 2];
    struct error err;

    if (row == NULL)
        return;
    snprintf(dedupe_key, sizeof(dedupe_key), "\"%s\"", row->name);
    const struct failure_row content = {.body = buf_bytes(&row->body),
                                        .headers = buf_bytes(&row->headers),
                                        .dedupe_key = bytes_of(dedupe_key),
                                        .identity = buf_bytes(&row->identity),
                                        .entry_us = entry_time_us(row->entry)};
    failures->under_way = row;
    int result = failure_write(failures->failure, &content, &err);
    if (result < 0)
        finish_row(failures, result, &err);
}

const char *failures_trouble(const struct failures *failures)
{
    return failures->trouble;
}

void failures_stop(struct failures *failures, int64_t now_ms)
{
    failures->stopped = true;
    failures->stop_deadline_ms = failures->trouble[0] == '\0' ? now_ms + STOP_LIMIT_MS : 0;
}

bool failures_are_overdue(const struct failures *failures, int64_t now_ms)
{
    return failures->stopped && failures->len > 0 && now_ms >= failures->stop_deadline_ms;
}

bool failures_are_full(const struct failures *failures)
{
    return failures->len >= WAITING_MAX || failures->bytes >= WAITING_BYTES_MAX;
}

bool failures_have_room(const struct failures *failures)
{
    return failures->len < WAITING_MAX / 2 && failures->bytes < WAITING_BYTES_MAX / 2;
}

int failures_fd(const struct failures *failures)
{
    return failures->failure != NULL ? failure_fd(failures->failure) : -1;
}

int64_t failures_deadline_ms(const struct failures *failures)
{
    const struct row *next = failures->waiting != NULL ? failures->waiting : failures->refused;
    int64_t deadline_ms = -1;

    if (failures->under_way == NULL && next != NULL)
        deadline_ms = next->again_ms > failures->again_ms ? next->again_ms : failures->again_ms;
    if (failures->stopped && failures->len > 0 && failures->stop_deadline_ms > clock_monotonic_ms())
        deadline_ms = clock_earlier_ms(deadline_ms, failures->stop_deadline_ms);
    return deadline_ms;
}

void failures_process(struct failures *failures)
{
    struct error err;
    int result;

    if (failures->failure != NULL && failure_take(failures->failure, &result, &err))
        finish_row(failures, result, &err);
}
