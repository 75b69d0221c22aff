#include "worker/rejects.h"

#include "common/base/alloc.h"
#include "common/base/backoff.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/client/failure.h"
#include "worker/intake.h"
#include "worker/settle.h"

#include <stdio.h>
#include <stdlib.h>

/* What may wait here while the store is away. */
#define WAITING_MAX       1024
#define WAITING_BYTES_MAX (64 * 1024 * 1024)

struct reject {
    struct entry *entry; /* NULL: its connection was lost while the row was being written */
    char name[REJECT_NAME_SIZE];
    struct buf body;
    struct buf headers;
    struct reject *next;
};

struct rejects {
    struct failure *failure;
    struct reject *head; /* the one being written, if writing */
    struct reject *tail;
    bool writing;
    int64_t again_ms; /* not before then; 0: at once */
    struct backoff backoff;
    char trouble[160];
    struct log_fault fault;
    size_t len;
    size_t bytes;
};

int rejects_new(struct rejects **rejects, const struct settings_failure *settings,
                struct error *err)
{
    struct rejects *made = xcalloc(1, sizeof(*made));

    made->backoff = (struct backoff){.minimum_ms = 200, .maximum_ms = 10000};
    if (settings->dsn[0] != '\0' && failure_new(&made->failure, settings, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    *rejects = made;
    return 0;
}

static struct reject *take_head(struct rejects *rejects)
{
    struct reject *reject = rejects->head;

    rejects->head = reject->next;
    if (rejects->head == NULL)
        rejects->tail = NULL;
    reject->next = NULL;
    rejects->len--;
    rejects->bytes -= reject->body.len + reject->headers.len;
    return reject;
}

static void append(struct rejects *rejects, struct reject *reject)
{
    if (rejects->tail != NULL)
        rejects->tail->next = reject;
    else
        rejects->head = reject;
    rejects->tail = reject;
    rejects->len++;
    rejects->bytes += reject->body.len + reject->headers.len;
}

static void reject_free(struct reject *reject)
{
    buf_free(&reject->body);
    buf_free(&reject->headers);
    free(reject);
}

void rejects_free(struct rejects *rejects)
{
    if (rejects == NULL)
        return;
    if (rejects->failure != NULL)
        failure_free(rejects->failure);
    while (rejects->head != NULL) {
        if (rejects->head->entry != NULL)
            intake_settled(rejects->head->entry->intake, rejects->head->entry);
        reject_free(take_head(rejects));
    }
    free(rejects);
}

bool rejects_exist(const struct rejects *rejects)
{
    return rejects->failure != NULL;
}

void rejects_add(struct rejects *rejects, struct entry *entry, const char *name, struct buf *body,
                 struct buf *headers)
{
    struct reject *reject = xcalloc(1, sizeof(*reject));

    *reject = (struct reject){.entry = entry, .body = *body, .headers = *headers};
    snprintf(reject->name, sizeof(reject->name), "%s", name);
    *body = (struct buf){0};
    *headers = (struct buf){0};
    append(rejects, reject);
}

void rejects_forget(struct rejects *rejects, const struct intake *intake)
{
    const struct reject *being_written = rejects->writing ? rejects->head : NULL;

    for (size_t left = rejects->len; left > 0 && rejects->head != NULL; left--) {
        struct reject *reject = take_head(rejects);

        if (reject->entry != NULL && reject->entry->intake == intake) {
            intake_settled(reject->entry->intake, reject->entry);
            reject->entry = NULL;
        }
        /* The one that is being written stays until its answer comes. */
        if (reject->entry == NULL && reject != being_written)
            reject_free(reject);
        else
            append(rejects, reject);
    }
}

static void row_written(void *context, int result, const struct error *err)
{
    struct rejects *rejects = context;
    struct reject *reject = take_head(rejects);
    struct entry *entry = reject->entry;

    rejects->writing = false;
    if (result == 0 || entry == NULL) {
        reject_free(reject);
    } else {
        /* What the database refuses for good must not keep the others waiting. */
        append(rejects, reject);
    }
    if (result == 0) {
        backoff_reset(&rejects->backoff);
        rejects->trouble[0] = '\0';
        log_fault_over(&rejects->fault, LOG_PLAIN, "The failure transport takes messages again");
        if (entry != NULL)
            settle_rejected(entry);
        return;
    }
    rejects->again_ms = clock_monotonic_ms() + backoff_next(&rejects->backoff);
    snprintf(rejects->trouble, sizeof(rejects->trouble), "failure transport: %s", err->text);
    log_fault(
        &rejects->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
        "The failure transport takes no messages: %s. They stay in the stream, unacknowledged",
        err->text);
}

/* Of its id, which may be one that somebody chose. */
static int64_t entry_time_us(const struct entry *entry)
{
    return entry->id.ms < INT64_MAX / 1000 ? (int64_t)entry->id.ms * 1000 : INT64_MAX;
}

/* Whether somebody has written the row already can't be told from here (a worker that died, one that took
 * the entry over, an answer that was lost): it is always looked for, by the header that names the entry.
 * Rows of versions that named it otherwise are not found. */
void rejects_turn(struct rejects *rejects, int64_t now_ms)
{
    const struct reject *reject = rejects->head;
    char look_for[REJECT_NAME_SIZE + 2];

    if (reject == NULL || rejects->writing || now_ms < rejects->again_ms)
        return;
    snprintf(look_for, sizeof(look_for), "\"%s\"", reject->name);
    struct failure_row row = {.body = buf_bytes(&reject->body),
                              .headers = buf_bytes(&reject->headers),
                              .look_for = bytes_of(look_for),
                              .entry_us = entry_time_us(reject->entry)};
    rejects->writing = true;
    failure_write(rejects->failure, &row, row_written, rejects);
}

const char *rejects_trouble(const struct rejects *rejects)
{
    return rejects->trouble;
}

bool rejects_are_empty(const struct rejects *rejects)
{
    return rejects->head == NULL;
}

bool rejects_are_full(const struct rejects *rejects)
{
    return rejects->len >= WAITING_MAX || rejects->bytes >= WAITING_BYTES_MAX;
}

int rejects_fd(const struct rejects *rejects)
{
    return rejects->failure != NULL ? failure_fd(rejects->failure) : -1;
}

short rejects_events(const struct rejects *rejects)
{
    return rejects->failure != NULL ? failure_events(rejects->failure) : 0;
}

int64_t rejects_deadline_ms(const struct rejects *rejects)
{
    if (rejects->failure == NULL)
        return -1;
    if (rejects->head != NULL && !rejects->writing)
        return rejects->again_ms;
    return failure_deadline_ms(rejects->failure);
}

void rejects_process(struct rejects *rejects)
{
    if (rejects->failure != NULL)
        failure_process(rejects->failure);
}
