#include "worker/lanes.h"

#include "common/base/clock.h"
#include "worker/gather.h"

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

/* Its window is over, or another one begins: behind all that the lane has. */
static void end_window(struct lanes *lanes, struct lane *lane)
{
    lane_add(lane, gather_take(lane), lanes->aside_max);
    if (lane->list == NULL || lane->list == &lanes->gathering)
        lanes_place(lanes, lane);
}

/* A redelivered message may be what killed its worker: a batch would hide which of them it was. Behind those that are
 * left it would be published before them. What goes beyond what lanes that are aside may hold is left, but for a value
 * that takes the place of another. */
static bool waits_for_window(const struct lanes *lanes, const struct lane *lane,
                             const struct entry *entry)
{
    bool is_full = lane_is_full(lane, entry, lanes->aside_max);

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

    if (lane->gathered != NULL &&
        (!gather_fits(lane, entry) || !waits_for_window(lanes, lane, entry)))
        end_window(lanes, lane);
    if (!waits_for_window(lanes, lane, entry))
        lane_add(lane, entry, lanes->aside_max);
    else if (gather_add(lane, entry, now_ms))
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
    if (!gather_fits(lane, entry))
        end_window(lanes, lane);
    (void)gather_add(lane, entry, now_ms);
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

/* Its head is on the wire, or its answer is not yet acted on. */
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

void lanes_forget_waiting(struct lanes *lanes)
{
    struct lane *next;

    for (struct lane *lane = lanes->all; lane != NULL; lane = next) {
        next = lane->hh.next;
        if (lane->aside || lane->list == &lanes->paused)
            lane_forget(lane, NULL, is_in_flight(lanes, lane));
        else
            lane_forget_left(lane);
        if (lane->head == NULL)
            lanes_place(lanes, lane);
    }
}

void lanes_take_handled(struct lanes *lanes, const struct source *source, struct ids *ids)
{
    struct lane *next;

    for (struct lane *lane = lanes->unloaded.head; lane != NULL; lane = next) {
        size_t len = 0;

        next = lane->next;
        while (lane->is_handled && len < lane->left.len &&
               ids_at(&lane->left, len)->source == source)
            len++;
        ids_move(ids, &lane->left, len);
        if (len > 0)
            lanes_place(lanes, lane);
    }
}

size_t lanes_begin_page(struct lanes *lanes, const struct source *source, struct stream_id *ids,
                        size_t max, bool *redelivered, struct lane **lane)
{
    for (*lane = lanes->unloaded.head; *lane != NULL; *lane = (*lane)->next) {
        const struct left *first = ids_at(&(*lane)->left, 0);

        if ((*lane)->reading != NULL || first->source != source)
            continue;
        (*lane)->reading = source;
        (*lane)->reading_alone = first->alone;
        *redelivered = first->redelivered;
        return ids_page(&(*lane)->left, ids, max);
    }
    return 0;
}

/* What is read again stands before all that is left: it is not left once more. */
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
    if (is_alone || !gather_fits(lane, entry)) {
        append(lane, gather_take(lane));
        append(lane, entry);
    } else if (gather_add(lane, entry, now_ms)) {
        append(lane, gather_take(lane));
    }
}

void lanes_end_page(struct lanes *lanes, struct lane *lane, size_t read)
{
    ids_drop(&lane->left, read);
    if (read > 0)
        lane_skip_one_before(lane);
    /* It has waited for its window, in the place of the one that was refused. */
    if (lane_publish(lane) == PUBLISH_LATEST && lane->reading_alone && lane->left.len == 0)
        append(lane, gather_take(lane));
    lane->reading = NULL;
    lanes_place(lanes, lane);
}

void lanes_each_pending(const struct lanes *lanes, const struct source *source, ids_visit *visit,
                        void *context)
{
    for (const struct entry *entry = source->open; entry != NULL; entry = entry->open_next) {
        struct left left = {entry->source, entry->id, entry->redelivered, false};

        visit(context, &left);
        for (size_t i = 0; i < entry->carried.len; i++) {
            left.id = entry->carried.ids[i];
            visit(context, &left);
        }
    }
    ids_each(&source->unread, source, visit, context);
    ids_each(&source->unwritten, source, visit, context);
    for (const struct lane *lane = lanes->all; lane != NULL; lane = lane->hh.next)
        ids_each(&lane->left, source, visit, context);
}
