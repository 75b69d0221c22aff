#include "worker/handlers.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "worker/handler_process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 10000
#define AHEAD_MAX      ((size_t)256 * 1024) /* bytes of lines that the handler has not read */
#define ERROR_MAX      2048                 /* bytes of an error's text that are kept */

/* A message in hand. */
struct call {
    struct entry *entry; /* NULL: forgotten, its answer is dropped */
    struct source *source;
    struct stream_id id;
    uint32_t deliveries; /* as the entry was when it was given */
    bool redelivered;
    int64_t sent_us;
    UT_hash_handle hh;
    size_t key_len;
    char key[]; /* the identity */
};

struct handler {
    struct handlers *handlers;
    const struct settings_handler *settings;
    struct handler_process *process;
    bool ready;
    bool wants_text;       /* payloads as strings */
    struct entry *waiting; /* utlist.h, in their order */
    struct call *calls;    /* uthash.h, the oldest first */
    int64_t oldest_ms;     /* when the oldest call became the oldest, or the process was started */
    struct clock_backoff backoff;
    int64_t start_ms; /* DOWN: no new start before then */
    bool started;     /* the end of this process has not been noted yet */
    bool has_run;
    char trouble[HANDLER_CAUSE_LENGTH + 100];
    struct log_fault fault;
};

struct handlers {
    const struct child *child;
    handlers_answered *answered;
    void *context;
    bool stopping;
    struct handler *all;
    size_t len;
};

static void open_handler(struct handlers *handlers, const struct settings_handler *settings)
{
    struct handler *handler = &handlers->all[handlers->len++];

    handler->handlers = handlers;
    handler->settings = settings;
    handler->process = handler_process_new(handlers->child->settings, settings);
    handler->backoff =
        (struct clock_backoff){.minimum_ms = BACKOFF_MIN_MS, .maximum_ms = BACKOFF_MAX_MS};
    snprintf(handler->trouble, sizeof(handler->trouble), "[handler:%s] is not ready yet",
             settings->name);
}

struct handlers *handlers_new(const struct child *child, handlers_answered *answered, void *context)
{
    struct handlers *handlers = xcalloc(1, sizeof(*handlers));
    const struct settings *settings = child->settings;

    handlers->child = child;
    handlers->answered = answered;
    handlers->context = context;
    handlers->all = xcalloc(settings->handlers_len + 1, sizeof(*handlers->all));
    for (size_t i = 0; i < settings->handlers_len; i++)
        if (settings_handler_is_used(settings, &settings->handlers[i]))
            open_handler(handlers, &settings->handlers[i]);
    return handlers;
}

static void release_waiting(struct handler *handler, const struct source *source)
{
    struct entry *next;

    for (struct entry *entry = handler->waiting; entry != NULL; entry = next) {
        next = entry->next;
        if (source != NULL && entry->source != source)
            continue;
        DL_DELETE(handler->waiting, entry);
        if (source == NULL)
            source_put_back(entry);
        else
            source_forget(entry);
    }
}

/* source NULL: any source. The worker ends, and what is counted then stays so. */
static void forget_calls(struct handler *handler, const struct source *source)
{
    for (struct call *call = handler->calls; call != NULL; call = call->hh.next) {
        struct entry *entry = call->entry;

        if (entry == NULL || (source != NULL && entry->source != source))
            continue;
        call->entry = NULL;
        if (source == NULL)
            source_release(entry);
        else
            source_forget(entry);
    }
}

static struct entry *end_call(struct handler *handler, struct call *call)
{
    struct entry *entry = call->entry;

    HASH_DEL(handler->calls, call); // NOLINT(clang-analyzer-core.NullDereference): it holds call
    free(call);
    return entry;
}

void handlers_free(struct handlers *handlers)
{
    if (handlers == NULL)
        return;
    for (size_t i = 0; i < handlers->len; i++) {
        struct handler *handler = &handlers->all[i];

        release_waiting(handler, NULL);
        forget_calls(handler, NULL);
        while (handler->calls != NULL)
            (void)end_call(handler, handler->calls);
        handler_process_free(handler->process);
    }
    free(handlers->all);
    free(handlers);
}

void handlers_add(struct handlers *handlers, const struct settings_handler *settings,
                  struct entry *entry)
{
    struct handler *handler = handlers->all;

    while (handler->settings != settings)
        handler++;
    source_set_state(entry, ENTRY_WAITING);
    DL_APPEND(handler->waiting, entry);
}

void handlers_forget(struct handlers *handlers, const struct source *source)
{
    for (size_t i = 0; i < handlers->len; i++) {
        release_waiting(&handlers->all[i], source);
        forget_calls(&handlers->all[i], source);
    }
}

void handlers_stop(struct handlers *handlers)
{
    handlers->stopping = true;
}

static void redeliver_waiting(const struct handler *handler, const struct call *call)
{
    for (struct entry *entry = handler->waiting; entry != NULL; entry = entry->next)
        if (entry->source == call->source && stream_id_equals(entry->id, call->id))
            entry->redelivered = true;
}

void handlers_redeliver(struct handlers *handlers)
{
    for (size_t i = 0; i < handlers->len; i++) {
        const struct handler *handler = &handlers->all[i];

        for (const struct call *call = handler->calls; call != NULL; call = call->hh.next)
            if (call->entry != NULL)
                call->entry->redelivered = true;
            else
                redeliver_waiting(handler, call);
    }
}

void handlers_end(struct handlers *handlers)
{
    for (size_t i = 0; i < handlers->len; i++) {
        forget_calls(&handlers->all[i], NULL);
        handler_process_terminate(handlers->all[i].process);
    }
}

static void fail(struct handler *handler, const char *what, struct bytes detail)
{
    char shown[80], cause[HANDLER_CAUSE_LENGTH];

    bytes_to_printable(detail, shown, sizeof(shown));
    snprintf(cause, sizeof(cause), "%s%s%s", what, detail.len > 0 ? ": " : "", shown);
    handler_process_kill(handler->process, cause);
}

static void settle_failed(struct handler *handler, struct entry *entry, enum verdict verdict,
                          const char *what, struct bytes why)
{
    char shown[ERROR_MAX + 1];
    struct buf cause = {0};

    bytes_to_printable(why, shown, sizeof(shown));
    buf_printf(&cause, "[handler:%s] %s%s", handler->settings->name, what, shown);
    if (why.len > ERROR_MAX)
        buf_printf(&cause, "... (the first %d of %zu bytes)", ERROR_MAX, why.len);
    settle_entry(entry, verdict, buf_text(&cause));
    buf_free(&cause);
}

/* wrong: why the answer can't be used; "" : it can. */
static void take_answer(struct handler *handler, struct entry *entry, struct answer *answer,
                        const char *wrong)
{
    const struct handlers *handlers = handler->handlers;

    source_set_state(entry, ENTRY_CURRENT);
    if (wrong[0] != '\0') {
        settle_failed(handler, entry, VERDICT_REJECT,
                      "has given an answer that can't be used: ", bytes_of(wrong));
    } else if (answer->line.kind == HANDLER_ERROR) {
        settle_failed(handler, entry, answer->line.retry ? VERDICT_RETRY : VERDICT_REJECT,
                      "says: ", answer->line.error);
    } else if (answer->line.updates_len == 0) {
        settle_entry(entry, VERDICT_DONE, "");
    } else {
        entry->answer = answer;
        source_add_bytes(entry, answer->bytes);
        source_wait_for_hub(entry);
        handlers->answered(handlers->context, entry);
        return;
    }
    entry_answer_free(answer);
}

/* A line of a handler that is ready: an answer for a message in hand, or a violation of the protocol. */
static void take_outcome(struct handler *handler, struct answer *answer, int result,
                         const struct error *err)
{
    struct bytes id = answer->line.id;
    struct call *call = NULL;

    if (id.len > 0)
        HASH_FIND(hh, handler->calls, id.data, id.len, call);
    if (call == NULL) {
        if (result < 0 && id.len == 0)
            fail(handler, "it wrote a line that is no answer", bytes_of(err->text));
        else
            fail(handler, "it answered for a message that it does not have", id);
        entry_answer_free(answer);
        return;
    }
    stats_observe(handler->handlers->child->slot, STATS_HANDLER_US,
                  clock_monotonic_us() - call->sent_us);
    clock_backoff_reset(&handler->backoff);
    if (call == handler->calls)
        handler->oldest_ms = clock_monotonic_ms();
    struct entry *entry = end_call(handler, call);
    if (entry != NULL)
        take_answer(handler, entry, answer, result < 0 ? err->text : "");
    else
        entry_answer_free(answer);
}

static void become_ready(struct handler *handler, const struct handler_line *line)
{
    handler->ready = true;
    handler->wants_text = line->wants_text;
    handler->trouble[0] = '\0';
    if (handler->fault.standing)
        log_fault_over(&handler->fault, LOG_PLAIN, "[handler:%s] is ready again",
                       handler->settings->name);
    else
        log_info(LOG_PLAIN, "[handler:%s] is ready", handler->settings->name);
}

static size_t lists_bytes(const struct handler_line *line)
{
    size_t bytes = line->updates_len * sizeof(*line->updates);

    for (size_t i = 0; i < line->updates_len; i++)
        bytes += line->updates[i].topics_len * sizeof(*line->updates[i].topics);
    return bytes;
}

static void take_line(struct handler *handler, const char *text, size_t len)
{
    struct answer *answer = xcalloc(1, sizeof(*answer));
    size_t size = 2 * len + 1; /* the line, and strings of it without their escapes */
    struct error err = {0};

    arena_reserve(&answer->arena, size);
    struct bytes copy = arena_copy(&answer->arena, (struct bytes){text, len});
    int result =
        handler_line_read(&answer->line, (char *)copy.data, copy.len, &answer->arena, &err);
    bool says_ready = result == 0 && answer->line.kind == HANDLER_READY;

    answer->bytes = sizeof(*answer) + (answer->arena.held > size ? answer->arena.held : size) +
                    lists_bytes(&answer->line);
    if (handler->ready && !says_ready) {
        take_outcome(handler, answer, result, &err);
        return;
    }
    if (handler->ready)
        fail(handler, "it says a second time that it is ready", BYTES_NONE);
    else if (says_ready)
        become_ready(handler, &answer->line);
    else
        fail(handler, "its first line is not {\"ready\":true} but", copy);
    entry_answer_free(answer);
}

static void take_lines(struct handler *handler)
{
    char *text;
    size_t len;

    while (handler_process_line(handler->process, &text, &len))
        take_line(handler, text, len);
}

static bool is_in_hand(const struct handler *handler, const struct entry *entry)
{
    struct call *call;

    HASH_FIND(hh, handler->calls, entry->identity.data, entry->identity.len, call);
    return call != NULL;
}

/* Answers take memory until the hub has taken them. */
static bool has_room_for_answers(const struct handler *handler, const struct entry *entry)
{
    size_t limit = (size_t)handler->handlers->child->settings->worker.prefetch_bytes;
    const struct load *total = entry->source->total;

    return total->bytes[ENTRY_CURRENT] < limit && !load_is_crowded(total, limit);
}

/* A redelivered entry is in hand alone. */
static bool may_be_sent(const struct handler *handler, struct entry *entry)
{
    const struct call *first = handler->calls;
    bool is_alone = first != NULL && (entry->redelivered || first->redelivered);

    return !is_alone && HASH_COUNT(handler->calls) < (size_t)handler->settings->inflight &&
           !is_in_hand(handler, entry) && has_room_for_answers(handler, entry) &&
           source_count_delivery(entry);
}

static void hand_over(struct handler *handler, struct entry *entry, struct arena *arena)
{
    const struct envelope *envelope = &entry->envelope;
    const struct handler_message message = {.id = entry->identity,
                                            .topic = envelope->topic,
                                            .payload = envelope->payload,
                                            .as_text = handler->wants_text,
                                            .received_us = envelope->received_us,
                                            .headers = envelope->headers,
                                            .attempt = envelope->retry_count + entry->deliveries +
                                                       (entry->redelivered ? 1 : 0)};
    struct call *call = xcalloc(1, sizeof(*call) + entry->identity.len);

    source_set_state(entry, ENTRY_HANDLING);
    handler_line_write(handler_process_out(handler->process), &message, arena);
    call->entry = entry;
    call->source = entry->source;
    call->id = entry->id;
    call->deliveries = entry->deliveries;
    call->redelivered = entry->redelivered;
    call->sent_us = clock_monotonic_us();
    call->key_len = entry->identity.len;
    memcpy(call->key, entry->identity.data, call->key_len);
    if (handler->calls == NULL)
        handler->oldest_ms = clock_monotonic_ms();
    HASH_ADD_KEYPTR(hh, handler->calls, call->key, call->key_len, call);
}

static void send_waiting(struct handler *handler)
{
    struct arena arena = {0};

    while (handler->waiting != NULL && handler_process_out(handler->process)->len < AHEAD_MAX &&
           may_be_sent(handler, handler->waiting)) {
        struct entry *entry = handler->waiting;

        DL_DELETE(handler->waiting, entry);
        hand_over(handler, entry, &arena);
        arena_clear(&arena);
    }
    arena_free(&arena);
}

static void tell_end(struct handler *handler, const char *cause, size_t in_hand, int64_t wait_ms)
{
    const char *name = handler->settings->name;

    snprintf(handler->trouble, sizeof(handler->trouble), "[handler:%s] does not run: %s", name,
             cause);
    if (handler->handlers->stopping)
        log_fault(&handler->fault, LOG_LEVEL_ERROR,
                  LOG_WITH(log_number("in_hand", (int64_t)in_hand)),
                  "[handler:%s] died: %s. What it had in hand, %zu messages, stays pending", name,
                  cause, in_hand);
    else if (in_hand > 0)
        log_fault(&handler->fault, LOG_LEVEL_ERROR,
                  LOG_WITH(log_number("in_hand", (int64_t)in_hand)),
                  "[handler:%s] died: %s. It is started again in %lld ms; what it had in hand, %zu "
                  "messages, is tried again, one at a time",
                  name, cause, (long long)wait_ms, in_hand);
    else
        log_fault(
            &handler->fault, LOG_LEVEL_ERROR, LOG_PLAIN,
            "[handler:%s] does not run: %s. It is started again in %lld ms; its messages wait",
            name, cause, (long long)wait_ms);
}

/* The entry was forgotten, and may have been read again since. */
static void charge_forgotten(struct handler *handler, const struct call *call, const char *cause)
{
    struct entry *entry =
        source_charge_forgotten(call->source, call->id, call->deliveries, call->redelivered);

    if (entry == NULL)
        return;
    entry->death = arena_copy(&entry->arena, bytes_of(cause));
    if (entry->state != ENTRY_WAITING || handler->handlers->stopping)
        return;
    DL_DELETE(handler->waiting, entry);
    entry->source->redeliver(entry->source->context, entry);
}

/* Any entry that was in hand when the handler died may have killed it: each is charged. */
static void give_back(struct handler *handler, const char *cause)
{
    while (handler->calls != NULL) {
        if (handler->calls->entry == NULL)
            charge_forgotten(handler, handler->calls, cause);
        struct entry *entry = end_call(handler, handler->calls);
        if (entry == NULL)
            continue;
        source_charge_delivery(entry);
        entry->death = arena_copy(&entry->arena, bytes_of(cause));
        if (handler->handlers->stopping)
            source_release(entry);
        else
            entry->source->redeliver(entry->source->context, entry);
    }
}

/* Calls whose entry was not forgotten. */
static size_t count_in_hand(const struct handler *handler)
{
    size_t count = 0;

    for (const struct call *call = handler->calls; call != NULL; call = call->hh.next)
        count += call->entry != NULL;
    return count;
}

static void note_end(struct handler *handler, const char *cause)
{
    int64_t wait_ms = clock_backoff_next(&handler->backoff);
    size_t in_hand = count_in_hand(handler);

    handler->ready = false;
    handler->started = false;
    handler->start_ms = clock_monotonic_ms() + wait_ms;
    if (!handler->handlers->stopping || in_hand > 0)
        tell_end(handler, cause, in_hand, wait_ms);
    give_back(handler, cause);
    if (handler->waiting != NULL)
        source_uncount(handler->waiting); /* the next entry may have been counted already */
}

static void start(struct handler *handler)
{
    struct error err;

    handler->started = true;
    handler->oldest_ms = clock_monotonic_ms();
    if (handler->has_run)
        stats_add(handler->handlers->child->slot, STATS_HANDLER_RESTARTS, 1);
    handler->has_run = true;
    if (handler_process_start(handler->process, &err) < 0)
        note_end(handler, err.text);
}

/* When the start, or the oldest message in hand, is overdue. A handler may work on its messages in turn, so the time of
 * a message begins when it becomes the oldest. */
static int64_t overdue_ms(const struct handler *handler)
{
    bool waits = !handler->ready || handler->calls != NULL;

    return waits ? handler->oldest_ms + handler->settings->timeout_ms : -1;
}

static void check_overdue(struct handler *handler, int64_t now_ms)
{
    char cause[80];

    if (overdue_ms(handler) < 0 || now_ms < overdue_ms(handler))
        return;
    /* The answer may have come while this process was not running. */
    handler_process_read(handler->process, NULL, 0);
    take_lines(handler);
    if (overdue_ms(handler) < 0 || now_ms < overdue_ms(handler))
        return;
    snprintf(cause, sizeof(cause), "%s within its timeout of %lld ms",
             handler->ready ? "a message was not answered" : "it was not ready",
             (long long)handler->settings->timeout_ms);
    handler_process_kill(handler->process, cause);
}

static void step(struct handler *handler, int64_t now_ms)
{
    struct handler_process *process = handler->process;
    bool stopping = handler->handlers->stopping;

    switch (handler_process_state(process)) {
    case HANDLER_DOWN:
        if (handler->started)
            note_end(handler, handler_process_cause(process));
        if (!stopping && now_ms >= handler->start_ms)
            start(handler);
        return;
    case HANDLER_RUNNING:
        check_overdue(handler, now_ms);
        if (handler_process_state(process) != HANDLER_RUNNING)
            break;
        if (handler->ready && !stopping)
            send_waiting(handler);
        if (stopping && handler->calls == NULL)
            handler_process_finish(process);
        break;
    case HANDLER_FINISHING:
    case HANDLER_ENDING:
        break;
    }
    handler_process_step(process, now_ms);
}

void handlers_step(struct handlers *handlers, int64_t now_ms)
{
    for (size_t i = 0; i < handlers->len; i++)
        step(&handlers->all[i], now_ms);
}

void handlers_process(struct handlers *handlers, const struct pollfd *fds, unsigned len)
{
    for (size_t i = 0; i < handlers->len; i++) {
        handler_process_read(handlers->all[i].process, fds, len);
        take_lines(&handlers->all[i]);
    }
}

int64_t handlers_deadline_ms(const struct handlers *handlers)
{
    int64_t deadline = -1;

    for (size_t i = 0; i < handlers->len; i++) {
        const struct handler *handler = &handlers->all[i];
        enum handler_process_state state = handler_process_state(handler->process);

        if (state == HANDLER_DOWN && (handler->started || !handlers->stopping))
            deadline = clock_earlier_ms(deadline, handler->started ? 0 : handler->start_ms);
        if (state == HANDLER_RUNNING)
            deadline = clock_earlier_ms(deadline, overdue_ms(handler));
        deadline = clock_earlier_ms(deadline, handler_process_deadline_ms(handler->process));
    }
    return deadline;
}

unsigned handlers_fds(const struct handlers *handlers)
{
    return (unsigned)handlers->len * HANDLER_PROCESS_FDS;
}

unsigned handlers_poll(const struct handlers *handlers, struct pollfd *fds)
{
    unsigned len = 0;

    for (size_t i = 0; i < handlers->len; i++)
        len += handler_process_poll(handlers->all[i].process, fds + len);
    return len;
}

bool handlers_have_ended(const struct handlers *handlers)
{
    for (size_t i = 0; i < handlers->len; i++)
        if (handler_process_state(handlers->all[i].process) != HANDLER_DOWN)
            return false;
    return true;
}

const char *handlers_trouble(const struct handlers *handlers)
{
    for (size_t i = 0; i < handlers->len; i++)
        if (handlers->all[i].trouble[0] != '\0')
            return handlers->all[i].trouble;
    return "";
}
