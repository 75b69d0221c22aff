#include "worker/due.h"

#include "common/base/clock.h"
#include "common/wire/retry.h"

#define PAGE     256
#define EVERY_MS 1000 /* PHP's workers add to the delayed set as well */

void due_begin(struct due *due)
{
    due->moving = false;
    due->source->due_ms = 0;
}

static void refuse(struct due *due, const struct error *err)
{
    due->refused = true;
    source_report_error(due->source, ERROR_DUE, err);
}

static void next_read(void *context, int result, int64_t due_ms, const struct error *err)
{
    struct due *due = context;

    due->moving = false;
    due->source->due_ms = clock_monotonic_ms() + EVERY_MS;
    if (result < 0)
        refuse(due, err);
    if (!due->refused)
        source_clear_error(due->source, ERROR_DUE);
    /* One that is due and could not be moved must not keep us busy. */
    if (result == 0 && due_ms >= 0 && (due_ms > clock_wall_us() / 1000 || due->moved > 0))
        source_will_be_due(due->source, due_ms);
}

static void moved(void *context, int result, int64_t number, const struct error *err)
{
    struct due *due = context;

    if (result < 0) {
        refuse(due, err);
        return;
    }
    due->moved++;
    if (number == 1)
        stats_add(due->source->child->slot, STATS_MOVED, 1);
}

/* A member that can't be read becomes an entry as it is, and so gets to the failure transport like any other
 * that can't. */
static void move(struct due *due, struct bytes member, struct buf *value, struct arena *arena)
{
    struct queue *queue = due->source->writer;
    struct error err;

    buf_clear(value);
    if (retry_member_to_value(value, member, queue_dsn(queue)->redis_serialized, arena, &err) < 0) {
        buf_clear(value);
        buf_append(value, member);
    }
    queue_move(queue, member, buf_bytes(value), clock_wall_us() / 1000, moved, due);
    arena_clear(arena);
}

static void members_read(void *context, int result, const struct bytes *members, size_t len,
                         const struct error *err)
{
    struct due *due = context;
    struct buf value = {0};
    struct arena arena = {0};
    size_t largest = 0;

    if (result < 0)
        refuse(due, err);
    for (size_t i = 0; result == 0 && i < len; i++) {
        if (members[i].len > largest)
            largest = members[i].len;
        if (members[i].data != NULL) /* else it comes in the next round */
            move(due, members[i], &value, &arena);
    }
    if (len > 0)
        source_learn_size(due->source, largest);
    arena_free(&arena);
    buf_free(&value);
    queue_next_due(due->source->writer, next_read, due);
}

void due_step(struct due *due, int64_t now_ms, size_t bytes)
{
    if (due->moving || now_ms < due->source->due_ms)
        return;
    due->moving = true;
    due->moved = 0;
    due->refused = false;
    queue_read_due(due->source->writer, clock_wall_us() / 1000,
                   source_page_size(due->source, PAGE, bytes), bytes, members_read, due);
}

int64_t due_deadline_ms(const struct due *due)
{
    return due->moving ? -1 : due->source->due_ms;
}
