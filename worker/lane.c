#include "worker/lane.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Windows last so much longer while the worker is behind: with fewer updates the worker and the hub catch up. */
#define BEHIND_MS 1000

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
    entry_ids_free(&lane->left);
    free(lane->why);
    free(lane);
}

/* The lane behind which a window of that end belongs; NULL: it is the first. Searches from the nearer end of the
 * list. */
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

static void clear_blame(struct lane *lane)
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

    clear_blame(lane);
    DL_DELETE(lane->head, entry);
    return entry;
}

void lane_go_on(struct lane *lane)
{
    clear_blame(lane);
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

static struct entry_left carried_at(const struct entry *entry, size_t number, bool alone)
{
    return (struct entry_left){entry->source, entry->carried.ids[number], entry->redelivered,
                               alone};
}

/* Leaves the entry before those that are left already. A batch's entry is older than the carried ones, a newest value
 * is younger. */
static void leave_first(struct lane *lane, struct entry *entry, bool alone)
{
    const struct entry_left own = {entry->source, entry->id, entry->redelivered, alone};

    if (!entry_is_batch(entry))
        entry_ids_push_front(&lane->left, own);
    for (size_t i = entry->carried.len; i-- > 0;)
        entry_ids_push_front(&lane->left, carried_at(entry, i, alone));
    if (entry_is_batch(entry))
        entry_ids_push_front(&lane->left, own);
    source_put_back(entry);
}

/* Leaves the entry behind those that are left already. */
static void leave_last(struct lane *lane, struct entry *entry)
{
    if (entry_is_batch(entry))
        entry_ids_push(&lane->left, entry);
    for (size_t i = 0; i < entry->carried.len; i++)
        entry_ids_push_left(&lane->left, carried_at(entry, i, false));
    if (!entry_is_batch(entry))
        entry_ids_push(&lane->left, entry);
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
    entry_ids_push_front(
        &lane->left, (struct entry_left){before->source, before->id, before->redelivered, true});
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

/* The page that is read has a value in place of a refused one, and lane->rest carries the older values of that
 * source. */
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

/* The lane is aside, and the entry has no room within the limit. */
static bool is_beyond(const struct lane *lane, const struct entry *entry, size_t limit)
{
    return lane->aside && !fits_aside(entry, limit);
}

/* A newest value is kept in memory whatever the limit: there is one for each topic. */
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
    bool is_left = lane->left.len > 0 || is_beyond(lane, entry, limit);

    if (is_left) {
        leave_last(lane, entry);
        return;
    }
    DL_APPEND(lane->head, entry);
    if (lane->aside)
        source_set_aside(entry);
}

/* source NULL: any source. */
static void forget_left(struct lane *lane, const struct source *source)
{
    if (source == NULL)
        entry_ids_free(&lane->left);
    else
        entry_ids_forget(&lane->left, source);
    if (lane->rest == NULL || (source != NULL && lane->rest->source != source))
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
            source_forget(entry);
    }
    if (lane->head != first)
        clear_blame(lane);
    if (lane->gathered != NULL && (source == NULL || lane->gathered->source == source)) {
        source_forget(lane->gathered);
        lane->gathered = NULL;
    }
    forget_left(lane, source);
    if (source == NULL || lane->reading == source)
        lane->reading = NULL;
}

bool lane_gather_fits(const struct lane *lane, const struct entry *entry)
{
    return lane->gathered == NULL || lane->gathered->source == entry->source;
}

static void open_window(struct lane *lane, struct entry *entry, int64_t now_ms)
{
    lane->gathered = entry;
    lane->window_ms = now_ms + lane->route->window_ms + (entry->source->behind ? BEHIND_MS : 0);
    if (lane->aside)
        source_set_aside(entry);
    else
        source_set_gathered(entry);
}

/* Keeps the newest value last. If it is refused, the last one that it carries is published: that must not be a value
 * that merely came late. */
static void add_latest(struct lane *lane, struct entry *entry)
{
    struct entry *other = lane->gathered;

    if (!entry_is_newer(entry, other)) {
        source_conflate(other, entry);
        return;
    }
    source_set_gathered(entry);
    source_conflate(entry, other);
    lane->gathered = entry;
}

bool lane_conflate_late(struct lane *lane, struct entry *entry)
{
    if (lane_publish(lane) != PUBLISH_LATEST || lane->head == NULL ||
        lane->head->source != entry->source || !entry_is_newer(lane->head, entry))
        return false;
    source_conflate(lane->head, entry);
    return true;
}

static bool is_full(const struct lane *lane)
{
    const struct carried *carried = &lane->gathered->carried;

    return carried->len + 1 >= (size_t)lane->route->batch_max ||
           carried->documents.len >= (size_t)lane->route->batch_bytes;
}

bool lane_gather_add(struct lane *lane, struct entry *entry, int64_t now_ms)
{
    bool first = lane->gathered == NULL;

    if (first)
        open_window(lane, entry, now_ms);
    if (lane_publish(lane) == PUBLISH_LATEST) {
        if (!first)
            add_latest(lane, entry);
        return false;
    }
    source_add_bytes(lane->gathered,
                     publication_append_document(entry, &lane->gathered->carried.documents));
    if (!first)
        source_carry(lane->gathered, entry);
    return is_full(lane);
}

struct entry *lane_gather_take(struct lane *lane)
{
    struct entry *entry = lane->gathered;

    lane->gathered = NULL;
    return entry;
}

void lane_gather_refresh(struct lane *lane)
{
    struct entry *head = lane->head;

    if (lane_publish(lane) != PUBLISH_LATEST || lane->gathered == NULL ||
        !lane_gather_fits(lane, head) || head->counted || head->source->counting == head)
        return;
    DL_DELETE(lane->head, head);
    add_latest(lane, head);
    head = lane_gather_take(lane);
    DL_PREPEND(lane->head, head);
}

static void remove_lane(struct lanes *lanes, struct lane *lane)
{
    HASH_DEL(lanes->all, lane); // NOLINT(clang-analyzer-core.NullDereference): it holds lane
    lane_free(lane);
}

void lanes_free(struct lanes *lanes)
{
    struct lane *next;

    for (struct lane *lane = lanes->all; lane != NULL; lane = next) {
        next = lane->hh.next;
        lane_forget(lane, NULL, false);
        remove_lane(lanes, lane);
    }
}

static struct lane *find_or_make(struct lanes *lanes, const struct entry *entry)
{
    const struct settings_route *route = publication_route(entry);
    struct bytes key = publication_lane(lanes->publication, entry, route);
    struct lane *lane;

    HASH_FIND(hh, lanes->all, key.data, key.len, lane);
    if (lane != NULL)
        return lane;
    lane = lane_new(key, route);
    lane->left.total = &lanes->left;
    lane->is_handled = entry->answer != NULL;
    HASH_ADD_KEYPTR(hh, lanes->all, lane->key, lane->key_len, lane);
    return lane;
}

/* The window is over, or another one begins: its entry joins the lane's queue. */
static void end_window(struct lanes *lanes, struct lane *lane)
{
    lane_add(lane, lane_gather_take(lane), lanes->aside_max);
    if (lane->list == NULL || lane->list == &lanes->gathering)
        lanes_place(lanes, lane);
}

/* Whether the entry joins a window. Three cases do not:
 * A redelivered message may have killed its worker, and a batch would hide which message it was.
 * A batch behind entries that are left in Redis would be published before those.
 * An entry without room among those set aside is left in Redis, unless it replaces another value. */
static bool waits_for_window(const struct lanes *lanes, const struct lane *lane,
                             const struct entry *entry)
{
    bool is_full = is_beyond(lane, entry, lanes->aside_max);

    switch (lane_publish(lane)) {
    case PUBLISH_EACH:
        return false;
    case PUBLISH_LATEST:
        return !is_full || lane->gathered != NULL;
    case PUBLISH_BATCH:
        return !is_full && !entry->redelivered && lane->left.len == 0;
    }
    return false;
}

void lanes_add(struct lanes *lanes, struct entry *entry, int64_t now_ms)
{
    struct lane *lane = find_or_make(lanes, entry);

    if (lane_conflate_late(lane, entry))
        return;
    if (lane->gathered != NULL &&
        (!lane_gather_fits(lane, entry) || !waits_for_window(lanes, lane, entry)))
        end_window(lanes, lane);
    if (!waits_for_window(lanes, lane, entry))
        lane_add(lane, entry, lanes->aside_max);
    else if (lane_gather_add(lane, entry, now_ms))
        end_window(lanes, lane);
    if (lane->list == NULL || (lane->list == &lanes->gathering && lane->head != NULL))
        lanes_place(lanes, lane);
}

void lanes_place(struct lanes *lanes, struct lane *lane)
{
    if (lane->head != NULL)
        lane_move(lane, &lanes->ready);
    else if (lane->left.len > 0)
        lane_move(lane, &lanes->unloaded);
    else if (lane->gathered == NULL)
        remove_lane(lanes, lane);
    else if (lane->list != &lanes->gathering)
        lane_move_by_window(lane, &lanes->gathering);
}

void lanes_put_off(struct lanes *lanes, struct lane *lane, int64_t now_ms)
{
    struct entry *entry = lane_pop(lane);

    entry->failures++;
    if (!lane_gather_fits(lane, entry))
        end_window(lanes, lane);
    (void)lane_gather_add(lane, entry, now_ms);
    lanes_place(lanes, lane);
}

int64_t lanes_end_windows(struct lanes *lanes, int64_t now_ms)
{
    struct lane *lane;

    while ((lane = lanes->gathering.head) != NULL &&
           (lanes->ending || lanes->crowded || lane->window_ms <= now_ms))
        end_window(lanes, lane);
    return lane != NULL ? lane->window_ms : -1;
}

int64_t lanes_resume(struct lanes *lanes, int64_t now_ms)
{
    int64_t deadline = -1;
    struct lane *next;

    for (struct lane *lane = lanes->paused.head; lane != NULL; lane = next) {
        next = lane->next;
        if (lane->due_ms <= now_ms)
            lane_move(lane, &lanes->ready);
        else
            deadline = clock_earlier_ms(deadline, lane->due_ms);
    }
    return deadline;
}

/* The first entry's request is in flight, or answered and not settled. */
static bool is_in_flight(const struct lanes *lanes, const struct lane *lane)
{
    return lane->list == &lanes->flight || lane->list == &lanes->overdue ||
           lane->list == &lanes->held;
}

size_t lanes_count_in_flight(const struct lanes *lanes, const struct source *source)
{
    size_t count = 0;

    for (const struct lane *lane = lanes->all; lane != NULL; lane = lane->hh.next)
        count += is_in_flight(lanes, lane) && lane->head->source == source;
    return count;
}

const struct lane *lanes_find_late(const struct lanes *lanes, const struct source *source,
                                   int64_t now_ms)
{
    for (const struct lane *lane = lanes->overdue.head; lane != NULL; lane = lane->next)
        if (lane->head->source == source && now_ms >= lane->due_ms)
            return lane;
    return NULL;
}

void lanes_forget(struct lanes *lanes, const struct source *source)
{
    struct lane *next;

    for (struct lane *lane = lanes->all; lane != NULL; lane = next) {
        const struct entry *head = lane->head;

        next = lane->hh.next;
        lane_forget(lane, source, is_in_flight(lanes, lane));
        if (lane->head == NULL || lane->head != head)
            lanes_place(lanes, lane);
    }
}

void lanes_keep_waiting(struct lanes *lanes)
{
    for (struct lane *lane = lanes->all; lane != NULL; lane = lane->hh.next) {
        bool waits = lane->aside || lane->list == &lanes->paused;

        if (!waits || lane->list == &lanes->kept || is_in_flight(lanes, lane))
            continue;
        lane_set_aside(lane, SIZE_MAX);
        lane_move(lane, &lanes->kept);
    }
}

void lanes_take_handled(struct lanes *lanes, const struct source *source, struct entry_ids *ids)
{
    struct lane *next;

    for (struct lane *lane = lanes->unloaded.head; lane != NULL; lane = next) {
        size_t len = 0;

        next = lane->next;
        while (lane->is_handled && len < lane->left.len &&
               entry_ids_at(&lane->left, len)->source == source)
            len++;
        entry_ids_move(ids, &lane->left, len);
        if (len > 0)
            lanes_place(lanes, lane);
    }
}

size_t lanes_begin_page(struct lanes *lanes, const struct source *source, struct stream_id *ids,
                        size_t max, bool *redelivered, struct lane **lane)
{
    for (*lane = lanes->unloaded.head; *lane != NULL; *lane = (*lane)->next) {
        const struct entry_left *first = entry_ids_at(&(*lane)->left, 0);

        if ((*lane)->reading != NULL || first->source != source)
            continue;
        (*lane)->reading = source;
        (*lane)->reading_alone = first->alone;
        *redelivered = first->redelivered;
        return entry_ids_page(&(*lane)->left, ids, max);
    }
    return 0;
}

/* An entry that was read again comes before all that are left, so it is never left once more. */
static void append(struct lane *lane, struct entry *entry)
{
    if (entry != NULL)
        DL_APPEND(lane->head, entry);
}

void lanes_add_again(struct lane *lane, struct entry *entry, int64_t now_ms)
{
    enum publish_mode publish = lane_publish(lane);
    bool is_alone = publish == PUBLISH_EACH ||
                    (publish == PUBLISH_BATCH && (lane->reading_alone || entry->redelivered));

    lane_take_rest(lane, entry);
    if (is_alone || !lane_gather_fits(lane, entry)) {
        append(lane, lane_gather_take(lane));
        append(lane, entry);
    } else if (lane_gather_add(lane, entry, now_ms)) {
        append(lane, lane_gather_take(lane));
    }
}

void lanes_end_page(struct lanes *lanes, struct lane *lane, size_t read)
{
    entry_ids_drop(&lane->left, read);
    if (read > 0)
        lane_skip_one_before(lane);
    /* The value replaces a refused one, which has waited for its window already: it is published at once. */
    if (lane_publish(lane) == PUBLISH_LATEST && lane->reading_alone && lane->left.len == 0)
        append(lane, lane_gather_take(lane));
    lane->reading = NULL;
    lanes_place(lanes, lane);
}

void lanes_each_pending(const struct lanes *lanes, const struct source *source,
                        entry_ids_visit *visit, void *context)
{
    for (const struct entry *entry = source->open; entry != NULL; entry = entry->open_next) {
        struct entry_left left = {entry->source, entry->id, entry->redelivered, false};

        visit(context, &left);
        for (size_t i = 0; i < entry->carried.len; i++) {
            left.id = entry->carried.ids[i];
            visit(context, &left);
        }
    }
    entry_ids_each(&source->unread, source, visit, context);
    entry_ids_each(&source->unwritten, source, visit, context);
    for (const struct lane *lane = lanes->all; lane != NULL; lane = lane->hh.next)
        entry_ids_each(&lane->left, source, visit, context);
}
