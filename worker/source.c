#include "worker/source.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#define LARGEST_AT_FIRST (4 * 1024 * 1024) /* until sizes are known */
#define LARGEST_LEAST    1024

int source_new(struct source **source, const struct child *child,
               const struct settings_transport *transport, const char *instance, struct load *total,
               struct error *err)
{
    struct source *made = xcalloc(1, sizeof(*made));

    if (queue_new(&made->writer, transport, err) < 0) {
        free(made);
        return -(int)err->code;
    }
    const char *given = queue_dsn(made->writer)->consumer;
    made->child = child;
    made->consumer = xasprintf("%s-%d", given != NULL ? given : instance, child->number);
    made->total = total;
    made->largest = LARGEST_AT_FIRST;
    snprintf(made->trouble, sizeof(made->trouble), "%s: not connected yet",
             queue_address(made->writer));
    *source = made;
    return 0;
}

void source_free(struct source *source)
{
    queue_free(source->writer);
    entry_ids_free(&source->unread);
    entry_ids_free(&source->unwritten);
    free(source->overcounts);
    free(source->consumer);
    free(source);
}

const char *source_stream(const struct source *source)
{
    return queue_dsn(source->writer)->stream;
}

static void add_load(struct entry *entry)
{
    struct load *total = entry->source->total;

    entry->source->entries[entry->state]++;
    total->entries[entry->state]++;
    total->bytes[entry->state] += entry->bytes;
    total->carried[entry->state] += entry->carried.len;
}

static void remove_load(struct entry *entry)
{
    struct load *total = entry->source->total;

    entry->source->entries[entry->state]--;
    total->entries[entry->state]--;
    total->bytes[entry->state] -= entry->bytes;
    total->carried[entry->state] -= entry->carried.len;
}

void source_open(struct source *source, struct entry *entry, enum entry_state state)
{
    entry->state = state;
    DL_PREPEND2(source->open, entry, open_prev, open_next);
    add_load(entry);
}

void source_set_state(struct entry *entry, enum entry_state state)
{
    remove_load(entry);
    entry->state = state;
    add_load(entry);
}

/* The entry's count can no longer be taken back by itself. */
static void forget_count(struct entry *entry)
{
    struct source *source = entry->source;

    if (source->counting == entry)
        source->counting = NULL;
    if (source->counted == entry)
        source->counted = NULL;
}

void source_uncarry(struct entry *entry)
{
    remove_load(entry);
    entry->carried.len = 0;
    add_load(entry);
}

void source_add_bytes(struct entry *entry, size_t bytes)
{
    remove_load(entry);
    entry->bytes += bytes;
    add_load(entry);
}

void source_release(struct entry *entry)
{
    struct source *source = entry->source;

    source_uncarry(entry);
    DL_DELETE2(source->open, entry, open_prev, open_next);
    forget_count(entry);
    remove_load(entry);
    entry_free(entry);
}

void source_put_back(struct entry *entry)
{
    source_uncount(entry);
    source_release(entry);
}

void source_handled(struct source *source, bool done)
{
    source->handled++;
    source->failed += !done;
}

void source_will_be_due(struct source *source, int64_t due_ms)
{
    int64_t monotonic = clock_monotonic_ms() + (due_ms - clock_wall_us() / 1000);

    if (monotonic < source->due_ms)
        source->due_ms = monotonic;
}

bool source_can_count(const struct source *source)
{
    return source->leased && queue_is_connected(source->writer);
}

/* The entry that was counted before is set aside, so that it holds up no other. */
static void set_counted(struct entry *entry)
{
    struct source *source = entry->source;
    struct entry *before = source->counted;

    if (before != NULL && before != entry && before->state == ENTRY_CURRENT)
        source_set_aside(before);
    source->counted = entry;
    source->counted_ms = clock_monotonic_ms();
}

static struct overcount *find_overcount(const struct source *source, struct stream_id id)
{
    for (size_t i = 0; i < source->overcounts_len; i++)
        if (stream_id_equals(source->overcounts[i].id, id))
            return &source->overcounts[i];
    return NULL;
}

static void set_overcount(struct source *source, struct overcount overcount)
{
    struct overcount *known = find_overcount(source, overcount.id);

    if (known == NULL) {
        source->overcounts =
            xgrow(source->overcounts, source->overcounts_len, sizeof(*source->overcounts));
        known = &source->overcounts[source->overcounts_len++];
    }
    *known = overcount;
}

/* Nobody has died of the entry, and Redis may have counted its delivery. */
static void note_overcount(const struct entry *entry)
{
    set_overcount(entry->source, (struct overcount){entry->id, entry->deliveries, false});
}

static void drop_overcount(struct source *source, struct overcount *overcount)
{
    *overcount = source->overcounts[--source->overcounts_len];
}

void source_write_overcounts(struct source *source)
{
    for (size_t i = 0; i < source->overcounts_len && source_can_count(source); i++)
        queue_claim(source->writer, source->consumer, &source->overcounts[i].id, 1,
                    source->overcounts[i].deliveries, NULL, NULL);
}

void source_forget_overcounts(struct source *source)
{
    source->overcounts_len = 0;
}

static void counted(void *context, int result, const struct error *err)
{
    struct source *source = context;
    struct entry *entry = source->counting;

    source->is_counting = false;
    source->counting = NULL;
    if (result < 0) {
        if (entry != NULL)
            note_overcount(entry);        /* Redis may have counted it */
        source_fail(source, result, err); /* the entry is pending, and will be read again */
        return;
    }
    if (entry == NULL || !source_can_count(source))
        return;
    entry->counted = true;
    if (entry->state != ENTRY_WAITING)
        set_counted(entry);
}

bool source_count_delivery(struct entry *entry)
{
    struct source *source = entry->source;

    if (!entry->redelivered || entry->counted)
        return true;
    if (source->is_counting || !source_can_count(source))
        return false;
    /* Only one such entry may be counted at a time, or a death would be charged to several. The order of reading
     * ensures that for entries in other states. */
    if ((entry->state == ENTRY_GATHERED || entry->state == ENTRY_WAITING) &&
        source->counted != NULL)
        return false;
    source->is_counting = true;
    source->counting = entry;
    queue_claim(source->writer, source->consumer, &entry->id, 1, entry->deliveries + 1, counted,
                source);
    return false;
}

bool source_may_settle(struct entry *entry)
{
    return !source_can_count(entry->source) || source_count_delivery(entry);
}

void source_uncount(struct entry *entry)
{
    struct source *source = entry->source;
    bool may_be_counted = entry->counted || source->counting == entry;

    forget_count(entry);
    if (!may_be_counted || !source_can_count(source))
        return;
    entry->counted = false;
    queue_claim(source->writer, source->consumer, &entry->id, 1, entry->deliveries, NULL, NULL);
}

void source_wait_for_hub(struct entry *entry)
{
    if (entry->counted)
        set_counted(entry);
}

void source_charge_delivery(struct entry *entry)
{
    forget_count(entry);
    entry->deliveries += entry->counted;
    entry->counted = false;
    entry->redelivered = true;
}

void source_forget(struct entry *entry)
{
    if (entry->counted || entry->source->counting == entry)
        note_overcount(entry);
    source_release(entry);
}

/* Writes entry->deliveries to Redis. */
static void write_deliveries(struct entry *entry)
{
    entry->counted = true;
    source_uncount(entry);
    entry->counted = false;
}

void source_correct_deliveries(struct entry *entry)
{
    struct source *source = entry->source;
    struct overcount *overcount = find_overcount(source, entry->id);

    if (overcount == NULL)
        return;
    uint32_t deliveries = overcount->deliveries;
    bool died = overcount->died;
    drop_overcount(source, overcount);
    entry->redelivered = entry->redelivered || died;
    if (!died && entry->deliveries != deliveries + 1)
        return; /* Redis had not counted it, or another worker has */
    if (!died || entry->deliveries + 1 == deliveries)
        entry->deliveries = deliveries;
    write_deliveries(entry);
}

static struct entry *find_open(const struct source *source, struct stream_id id)
{
    struct entry *entry = source->open;

    while (entry != NULL && !stream_id_equals(entry->id, id))
        entry = entry->open_next;
    return entry;
}

struct entry *source_charge_forgotten(struct source *source, struct stream_id id,
                                      uint32_t deliveries, bool counted)
{
    struct entry *entry = find_open(source, id);

    if (entry == NULL)
        set_overcount(source, (struct overcount){id, deliveries + counted, true});
    if (entry == NULL || entry->counted ||
        (entry->state != ENTRY_QUEUED && entry->state != ENTRY_WAITING))
        return NULL;
    entry->redelivered = true;
    if (counted && entry->deliveries == deliveries) {
        entry->deliveries++;
        write_deliveries(entry);
    }
    return entry;
}

void source_uncount_all(struct source *source)
{
    for (struct entry *entry = source->open; entry != NULL; entry = entry->open_next)
        source_uncount(entry);
}

/* The entry has taken over the other one's ids and replaces it. */
static void replace(struct entry *entry, struct entry *other)
{
    entry->redelivered = entry->redelivered || other->redelivered;
    if (entry->failures < other->failures)
        entry->failures = other->failures;
    source_release(other);
}

void source_carry(struct entry *entry, struct entry *other)
{
    source_uncount(other);
    remove_load(entry);
    entry_carry(entry, other->id);
    add_load(entry);
    replace(entry, other);
}

void source_conflate(struct entry *entry, struct entry *other)
{
    source_uncount(other);
    remove_load(entry);
    remove_load(other);
    entry_swap_ids(entry, other);
    entry_carry(entry, other->id);
    for (size_t i = 0; i < other->carried.len; i++)
        entry_carry(entry, other->carried.ids[i]);
    other->carried.len = 0;
    add_load(entry);
    add_load(other);
    if (other->state == ENTRY_ASIDE)
        source_set_aside(entry);
    replace(entry, other);
}

struct entry *source_take_carried(struct entry *entry)
{
    struct carried *carried = &entry->carried;

    if (carried->len == 0)
        return NULL;
    struct entry *last = entry_new(entry->source, carried->ids[carried->len - 1]);
    last->redelivered = entry->redelivered;
    remove_load(entry);
    carried->len--;
    entry_swap_ids(last, entry);
    add_load(entry);
    source_open(entry->source, last, ENTRY_ASIDE);
    return last;
}

void source_set_aside(struct entry *entry)
{
    source_uncount(entry);
    source_set_state(entry, ENTRY_ASIDE);
}

void source_set_gathered(struct entry *entry)
{
    source_uncount(entry);
    if (entry->state != ENTRY_ASIDE)
        source_set_state(entry, ENTRY_GATHERED);
}

void source_set_failing(struct entry *entry)
{
    forget_count(entry);
    entry->counted = false; /* the count in Redis stands until the row is written */
    remove_load(entry);
    entry_drop_value(entry);
    entry->state = ENTRY_FAILING;
    add_load(entry);
}

size_t source_page_size(const struct source *source, size_t max, size_t bytes)
{
    size_t size = bytes / source->largest;

    if (size > max)
        size = max;
    return size > 0 ? size : 1;
}

void source_learn_size(struct source *source, size_t largest)
{
    source->largest = largest > source->largest / 2 ? largest : source->largest / 2;
    if (source->largest < LARGEST_LEAST)
        source->largest = LARGEST_LEAST;
}

void source_fail(struct source *source, int result, const struct error *err)
{
    source->broken(source->context, result, err);
}

void source_mark_healthy(struct source *source)
{
    if (source->trouble[0] == '\0')
        return;
    source->trouble[0] = '\0';
    log_fault_over(&source->fault, LOG_PLAIN, "%s: reading resumed", queue_address(source->writer));
    stats_set(source->child->slot, STATS_REDIS_CONNECTED, 1);
}

static void groups_read(void *context, int result, const struct bytes *names, size_t len,
                        const struct error *err)
{
    struct source *source = context;
    const char *ours = queue_dsn(source->writer)->group;
    struct buf others = {0};

    (void)err;
    if (result < 0)
        return; /* XINFO may be forbidden; an earlier warning stands */
    for (size_t i = 0; i < len; i++)
        if (!bytes_equal_text(names[i], ours))
            buf_printf(&others, "%s%.*s", others.len > 0 ? ", " : "", BYTES_ARG(names[i]));
    if (others.len > 0)
        log_fault(&source->group_fault, LOG_LEVEL_ERROR, LOG_PLAIN,
                  "%s: %.200s reads the stream beside our group %s, and loses each entry that we "
                  "acknowledge: it is deleted for all groups. Give each group a stream of its own, "
                  "or set delete_after_ack=0&delete_after_reject=0 in every DSN of this one",
                  queue_address(source->writer), buf_text(&others), ours);
    else
        log_fault_over(&source->group_fault, LOG_PLAIN, "%s: no other group reads the stream now",
                       queue_address(source->writer));
    buf_free(&others);
}

void source_check_groups(struct source *source)
{
    const struct dsn_redis *dsn = queue_dsn(source->writer);

    if (dsn->delete_after_ack || dsn->delete_after_reject)
        queue_read_groups(source->writer, groups_read, source);
}

void source_report_error(struct source *source, enum source_error about, const struct error *err)
{
    /* If the connection broke, the reader handles that as one fault. */
    if (!queue_is_connected(source->writer))
        return;
    snprintf(source->error[about], sizeof(source->error[about]), "%s", err->text);
    log_fault(&source->error_fault[about], LOG_LEVEL_ERROR, LOG_PLAIN,
              "Redis refuses a command: %s; it is tried again", err->text);
}

void source_clear_error(struct source *source, enum source_error about)
{
    if (source->error[about][0] == '\0')
        return;
    source->error[about][0] = '\0';
    log_fault_over(&source->error_fault[about], LOG_PLAIN, "%s: commands are accepted again",
                   queue_address(source->writer));
}

const char *source_trouble(const struct source *source)
{
    if (source->trouble[0] != '\0')
        return source->trouble;
    for (size_t i = 0; i < SOURCE_ERRORS; i++)
        if (source->error[i][0] != '\0')
            return source->error[i];
    return "";
}
