#include "worker/takeover.h"

#include "common/base/clock.h"

#include <inttypes.h>
#include <stdio.h>

#define DEAD_EVERY_MS  5000
#define IDLE_LEAST_MS  3000 /* what a live worker touches is never idle for so long */
#define EVERY_LEAST_MS 100  /* claim_interval may be less, as under PHP: at each read */
#define SWEEP_LEAST_MS 1000 /* a live worker of others acknowledges and removes in less */
#define PAGES          16   /* looked through in one search; the next goes on behind them */

/* When idle entries of others are looked for next. */
static int64_t next_search_ms(const struct takeover *takeover)
{
    int64_t interval_ms = queue_dsn(takeover->source->writer)->claim_interval_ms;

    return clock_monotonic_ms() + (interval_ms > EVERY_LEAST_MS ? interval_ms : EVERY_LEAST_MS);
}

void takeover_begin(struct takeover *takeover)
{
    takeover->names_left = 0;
    takeover->searching = false;
    takeover->dead_ms = 0;
    takeover->idle_ms = next_search_ms(takeover);
    takeover->sweeping = false;
    takeover->unanswered = false;
    takeover->sweep_ms = 0;
    takeover->swept_until[0] = '\0';
}

static void add_found(struct takeover *takeover, const struct stream_id *ids, size_t len,
                      const char *whose)
{
    if (len == 0)
        return;
    stats_add(takeover->source->child->slot, STATS_CLAIMED, len);
    log_notice(LOG_WITH(log_number("entries", (int64_t)len)), "Took over %zu entries %s", len,
               whose);
    takeover->dead_ms = 0; /* there may be more */
    for (size_t i = 0; i < len; i++)
        entry_ids_push_left(&takeover->source->unread,
                            (struct entry_left){takeover->source, ids[i], true, false});
}

static void report(struct takeover *takeover, enum source_error about, const struct error *err)
{
    takeover->unanswered = true;
    source_report_error(takeover->source, about, err);
}

static void dead_taken(void *context, int result, const struct stream_id *ids, size_t len,
                       const struct error *err)
{
    struct takeover *takeover = context;

    takeover->names_left--;
    if (result < 0)
        report(takeover, ERROR_DEAD, err);
    else
        add_found(takeover, ids, len, "of a consumer that is gone");
}

static void names_read(void *context, int result, const struct bytes *names, size_t len,
                       const struct error *err)
{
    struct takeover *takeover = context;
    struct source *source = takeover->source;

    if (result < 0)
        source_report_error(source, ERROR_DEAD, err);
    else
        source_clear_error(source, ERROR_DEAD);
    if (len > 1)
        takeover->count = takeover->count > len ? takeover->count / len : 1;
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (bytes_equal_text(names[i], source->consumer))
            continue;
        takeover->names_left++;
        queue_take_over_dead(source->writer, source->consumer, names[i], takeover->count,
                             dead_taken, takeover);
    }
    takeover->names_left--;
}

static void search(struct takeover *takeover);

/* One that can't be read stays pending, with us or with another, for ever: what comes behind such must be
 * found all the same. */
static void idle_taken(void *context, int result, const struct stream_id *ids, size_t len,
                       struct stream_id next, const struct error *err)
{
    struct takeover *takeover = context;

    takeover->searching = false;
    if (result < 0) {
        report(takeover, ERROR_IDLE, err);
        return;
    }
    source_clear_error(takeover->source, ERROR_IDLE);
    takeover->after = next;
    bool more = next.ms != 0 || next.sequence != 0;
    if (len == 0 && more && --takeover->pages_left > 0) {
        search(takeover);
        return;
    }
    add_found(takeover, ids, len, "that were pending, and idle, for redeliver_timeout");
    if (len > 0 && more)
        takeover->idle_ms = 0;
}

static void search(struct takeover *takeover)
{
    struct source *source = takeover->source;
    int64_t timeout_ms = queue_dsn(source->writer)->redeliver_timeout_ms;

    takeover->searching = true;
    queue_take_over_idle(source->writer, source->consumer,
                         timeout_ms > IDLE_LEAST_MS ? timeout_ms : IDLE_LEAST_MS, takeover->after,
                         takeover->search_count, idle_taken, takeover);
}

/* Whatever keeps it from being done, the entries are handled, and nobody has to be told. */
static void swept(void *context, int result, struct bytes until, int64_t removed,
                  const struct error *err)
{
    struct takeover *takeover = context;

    takeover->sweeping = false;
    if (result < 0) {
        log_debug(LOG_PLAIN, "What others left in the stream was not looked for: %s", err->text);
        return;
    }
    snprintf(takeover->swept_until, sizeof(takeover->swept_until), "%.*s", BYTES_ARG(until));
    if (removed > 0)
        log_notice(LOG_WITH(log_number("entries", removed)),
                   "Removed %" PRId64
                   " entries that others had acknowledged and left in the stream",
                   removed);
}

static void sweep(struct takeover *takeover, int64_t now_ms)
{
    const struct dsn_redis *dsn = queue_dsn(takeover->source->writer);
    int64_t interval_ms = dsn->claim_interval_ms;

    if (!dsn->delete_after_ack || !dsn->delete_after_reject || takeover->sweeping ||
        now_ms < takeover->sweep_ms)
        return;
    takeover->sweeping = true;
    takeover->sweep_ms = now_ms + (interval_ms > SWEEP_LEAST_MS ? interval_ms : SWEEP_LEAST_MS);
    queue_sweep(takeover->source->writer, takeover->swept_until, swept, takeover);
}

void takeover_step(struct takeover *takeover, int64_t now_ms, size_t count)
{
    if (takeover->names_left == 0 && now_ms >= takeover->dead_ms) {
        takeover->names_left = 1; /* the reading of the names itself */
        takeover->dead_ms = now_ms + DEAD_EVERY_MS;
        takeover->count = count;
        queue_read_names(takeover->source->writer, names_read, takeover);
    }
    if (!takeover->searching && now_ms >= takeover->idle_ms) {
        takeover->idle_ms = next_search_ms(takeover);
        takeover->search_count = count;
        takeover->pages_left = PAGES;
        search(takeover);
    }
    sweep(takeover, now_ms);
}

bool takeover_is_in_doubt(const struct takeover *takeover)
{
    return takeover->unanswered || takeover->names_left > 0 || takeover->searching;
}

int64_t takeover_deadline_ms(const struct takeover *takeover)
{
    return takeover->searching ? -1 : takeover->idle_ms;
}
