#include "worker/lane.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct lane *lane_new(struct bytes key, const struct settings_route *route)
{
    struct lane *lane = xcalloc(1, sizeof(*lane) + key.len + 1);

    if (key.len > 0)
        memcpy(lane->key, key.data, key.len);
    lane->key_len = key.len;
    lane->route = route;
    return lane;
}

void lane_move(struct lane *lane, struct lane_list *list)
{
    if (lane->list != NULL) {
        DL_DELETE(lane->list->head, lane);
        lane->list->len--;
    }
    lane->list = list;
    if (list == NULL)
        return;
    DL_APPEND(list->head, lane);
    list->len++;
}

void lane_free(struct lane *lane)
{
    lane_move(lane, NULL);
    ids_free(&lane->left);
    free(lane->why);
    free(lane);
}

/* The one that stands before it; NULL: it is the first. A short window is over before most others. */
static struct lane *find_before(const struct lane_list *list, int64_t window_ms)
{
    struct lane *last = list->head->prev, *before = NULL;

    if (last->window_ms - window_ms <= window_ms - list->head->window_ms) {
        for (before = last; before != NULL && before->window_ms > window_ms;)
            before = before != list->head ? before->prev : NULL;
        return before;
    }
    for (struct lane *lane = list->head; lane != NULL && lane->window_ms <= window_ms;
         lane = lane->next)
        before = lane;
    return before;
}

void lane_move_by_window(struct lane *lane, struct lane_list *list)
{
    lane_move(lane, NULL);
    struct lane *before = list->head != NULL ? find_before(list, lane->window_ms) : NULL;
    if (before != NULL)
        DL_APPEND_ELEM(list->head, before, lane);
    else
        DL_PREPEND(list->head, lane);
    lane->list = list;
    list->len++;
}

bool lane_list_has_unrefused(const struct lane_list *list)
{
    for (const struct lane *lane = list->head; lane != NULL; lane = lane->next)
        if (lane->refused_at == 0)
            return true;
    return false;
}

static void forgive(struct lane *lane)
{
    lane->suspicion = (struct suspicion){0};
    lane->refused_at = 0;
    lane->limits = 0;
    lane->aside = false;
    free(lane->why);
    lane->why = NULL;
}

struct entry *lane_pop(struct lane *lane)
{
    struct entry *entry = lane->head;

    forgive(lane);
    DL_DELETE(lane->head, entry);
    return entry;
}

void lane_go_on(struct lane *lane)
{
    forgive(lane);
    lane->head->answer->published++;
}

void lane_explain(struct lane *lane, const char *why)
{
    free(lane->why);
    lane->why = xstrdup(why);
}

static bool fits_aside(const struct entry *entry, size_t limit)
{
    size_t held = entry->source->total->bytes[ENTRY_ASIDE];

    return held + (entry->state == ENTRY_ASIDE ? 0 : entry->bytes) <= limit;
}

static struct left carried_at(const struct entry *entry, size_t number, bool alone)
{
    return (struct left){entry->source, entry->carried.ids[number], entry->redelivered, alone};
}

/* Before those that are left already. A batch is carried by its first message, a newest value by the last one. */
static void leave_first(struct lane *lane, struct entry *entry, bool alone)
{
    const struct left own = {entry->source, entry->id, entry->redelivered, alone};

    if (!entry_is_batch(entry))
        ids_push_front(&lane->left, own);
    for (size_t i = entry->carried.len; i-- > 0;)
        ids_push_front(&lane->left, carried_at(entry, i, alone));
    if (entry_is_batch(entry))
        ids_push_front(&lane->left, own);
    source_put_back(entry);
}

/* Behind those that are left already. */
static void leave_last(struct lane *lane, struct entry *entry)
{
    if (entry_is_batch(entry))
        ids_push(&lane->left, entry);
    for (size_t i = 0; i < entry->carried.len; i++)
        ids_push_left(&lane->left, carried_at(entry, i, false));
    if (!entry_is_batch(entry))
        ids_push(&lane->left, entry);
    source_put_back(entry);
}

void lane_leave_batches(struct lane *lane)
{
    struct entry *first = lane_pop(lane);

    if (lane->gathered != NULL)
        leave_last(lane, lane->gathered);
    lane->gathered = NULL;
    while (lane->head != NULL) {
        struct entry *last = lane->head->prev;

        DL_DELETE(lane->head, last);
        leave_first(lane, last, false);
    }
    leave_first(lane, first, true);
}

static void leave_with_rest(struct lane *lane, struct entry *before)
{
    ids_push_front(&lane->left,
                   (struct left){before->source, before->id, before->redelivered, true});
    lane->rest = source_take_carried(before);
    source_release(before);
}

void lane_leave_one_before(struct lane *lane)
{
    struct entry *before = source_take_carried(lane->head);

    if (before == NULL)
        return;
    if (lane->rest == NULL)
        leave_with_rest(lane, before);
    else
        leave_first(lane, before, false); /* two transports have one topic */
}

/* Its page has only ones that are published in place of others, and the first of them has the rest. */
static bool has_rest_of(const struct lane *lane, const struct source *source)
{
    return lane->reading_alone && lane->rest != NULL && lane->rest->source == source;
}

void lane_take_rest(struct lane *lane, struct entry *entry)
{
    if (!has_rest_of(lane, entry->source))
        return;
    source_conflate(entry, lane->rest);
    lane->rest = NULL;
}

void lane_skip_one_before(struct lane *lane)
{
    if (has_rest_of(lane, lane->reading))
        leave_with_rest(lane, lane->rest);
}

void lane_forget_left(struct lane *lane)
{
    ids_free(&lane->left);
    if (lane->rest != NULL)
        source_release(lane->rest);
    lane->rest = NULL;
}

bool lane_is_full(const struct lane *lane, const struct entry *entry, size_t limit)
{
    return lane->aside && !fits_aside(entry, limit);
}

/* Of a topic the newest value is kept, whatever the limit. */
static void set_gathered_aside(struct lane *lane, size_t limit)
{
    struct entry *gathered = lane->gathered;

    if (gathered == NULL)
        return;
    if (lane_publish(lane) == PUBLISH_LATEST ||
        (lane->left.len == 0 && fits_aside(gathered, limit))) {
        source_set_aside(gathered);
        return;
    }
    leave_last(lane, gathered);
    lane->gathered = NULL;
}

void lane_set_aside(struct lane *lane, size_t limit)
{
    struct entry *last = lane->head;

    source_set_aside(last);
    if (lane->aside)
        return;
    lane->aside = true;
    while (last->next != NULL &&
           (last->next->state == ENTRY_ASIDE || fits_aside(last->next, limit))) {
        last = last->next;
        source_set_aside(last);
    }
    while (lane->head->prev != last) {
        struct entry *beyond = lane->head->prev;

        DL_DELETE(lane->head, beyond);
        leave_first(lane, beyond, false);
    }
    set_gathered_aside(lane, limit);
}

void lane_add(struct lane *lane, struct entry *entry, size_t limit)
{
    bool is_left = lane->left.len > 0 || lane_is_full(lane, entry, limit);

    if (is_left) {
        leave_last(lane, entry);
        return;
    }
    DL_APPEND(lane->head, entry);
    if (lane->aside)
        source_set_aside(entry);
}

static void forget_left_of(struct lane *lane, const struct source *source)
{
    ids_forget(&lane->left, source);
    if (lane->rest == NULL || lane->rest->source != source)
        return;
    source_release(lane->rest);
    lane->rest = NULL;
}

void lane_forget(struct lane *lane, const struct source *source, bool keep_head)
{
    struct entry *first = lane->head, *next;

    for (struct entry *entry = first; entry != NULL; entry = next) {
        next = entry->next;
        if ((source != NULL && entry->source != source) || (entry == first && keep_head))
            continue;
        DL_DELETE(lane->head, entry);
        if (source == NULL)
            source_put_back(entry);
        else
            source_release(entry);
    }
    if (lane->head != first)
        forgive(lane);
    if (lane->gathered != NULL && (source == NULL || lane->gathered->source == source)) {
        source_release(lane->gathered);
        lane->gathered = NULL;
    }
    if (source == NULL)
        lane_forget_left(lane);
    else
        forget_left_of(lane, source);
    if (source == NULL || lane->reading == source)
        lane->reading = NULL;
}
