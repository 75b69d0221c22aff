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

/* How far the clocks of Redis and the database may differ when a former row is looked for. */
#define LOOK_BACK_US (INT64_C(3600) * 1000000)

struct reject {
    struct entry *entry; /* NULL: its connection was lost while the row was being written */
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

static void drop_head(struct rejects *rejects)
{
    struct reject *reject = rejects->head;

    rejects->head = reject->next;
    if (rejects->head == NULL)
        rejects->tail = NULL;
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
        drop_head(rejects);
    }
    free(rejects);
}

bool rejects_exist(const struct rejects *rejects)
{
    return rejects->failure != NULL;
}

void rejects_add(struct rejects *rejects, struct entry *entry, struct buf *body,
                 struct buf *headers)
{
    struct reject *reject = xcalloc(1, sizeof(*reject));

    *reject = (struct reject){.entry = entry, .body = *body, .headers = *headers};
    *body = (struct buf){0};
    *headers = (struct buf){0};
    if (rejects->tail != NULL)
        rejects->tail->next = reject;
    else
        rejects->head = reject;
    rejects->tail = reject;
}

void rejects_forget(struct rejects *rejects, const struct intake *intake)
{
    struct reject *former = rejects->head;

    rejects->head = NULL;
    rejects->tail = NULL;
    for (bool first = true; former != NULL; first = false) {
        struct reject *next = former->next;
        bool ours = former->entry != NULL && former->entry->intake == intake;

        former->next = NULL;
        if (ours) {
            intake_settled(former->entry->intake, former->entry);
            former->entry = NULL;
        }
        if (ours && !(first && rejects->writing)) {
            buf_free(&former->body);
            buf_free(&former->headers);
            free(former);
        } else if (rejects->tail != NULL) {
            rejects->tail->next = former;
            rejects->tail = former;
        } else {
            rejects->head = former;
            rejects->tail = former;
        }
        former = next;
    }
}

static void row_written(void *context, int result, const struct error *err)
{
    struct rejects *rejects = context;
    struct reject *reject = rejects->head;

    rejects->writing = false;
    if (result == 0) {
        struct entry *entry = reject->entry;

        backoff_reset(&rejects->backoff);
        rejects->trouble[0] = '\0';
        log_fault_over(&rejects->fault, LOG_PLAIN, "The failure transport takes messages again");
        drop_head(rejects);
        if (entry != NULL)
            settle_rejected(entry);
        return;
    }
    /* Whether the row is there can't always be told: it is looked for before it is written again. */
    if (reject->entry == NULL)
        drop_head(rejects);
    else
        reject->entry->redelivered = true;
    rejects->again_ms = clock_monotonic_ms() + backoff_next(&rejects->backoff);
    snprintf(rejects->trouble, sizeof(rejects->trouble), "failure transport: %s", err->text);
    log_fault(
        &rejects->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
        "The failure transport takes no messages: %s. They stay in the stream, unacknowledged",
        err->text);
}

void rejects_turn(struct rejects *rejects, int64_t now_ms)
{
    const struct reject *reject = rejects->head;
    char id[STREAM_ID_TEXT_SIZE];

    if (reject == NULL || rejects->writing || now_ms < rejects->again_ms)
        return;
    struct failure_row row = {.body = buf_bytes(&reject->body),
                              .headers = buf_bytes(&reject->headers)};
    if (reject->entry->redelivered) {
        stream_id_format(reject->entry->id, id);
        row.look_for = bytes_of(id);
        row.looked_since_us = (int64_t)reject->entry->id.ms * 1000 - LOOK_BACK_US;
    }
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
