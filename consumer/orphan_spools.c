#include "consumer/orphan_spools.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "consumer/spool/predecessor.h"
#include "consumer/spool/spool.h"
#include "consumer/spool/spool_list.h"
#include "consumer/spool/spool_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS 10000
#define TURN_MS  10000 /* that one in trouble has before the next has its turn */

struct orphan_spools {
    const struct settings *settings;
    const char *place;
    struct stats_slot *slot;
    struct spool_list list; /* those that are still to be sent */
    size_t next;
    bool again;          /* all had their turn: it was said what can't be opened */
    int64_t retry_ms;    /* when to begin anew with those that had to wait */
    int64_t turn_ms;     /* when the one at work was opened */
    struct spool *spool; /* of list[next], while it is at work */
    struct dispatch *dispatch;
    char reason[STATS_REASON_SIZE + 100]; /* why it is not sent, as it was logged last */
};

/* A consumer's own: its spool, or (place NULL) the client id's folder. */
static bool is_owned(const struct settings *settings, const char *place, const char *dir)
{
    bool owned = false;

    for (size_t i = 0; i <= settings->consumers_len && !owned; i++) {
        const struct settings_mqtt *mqtt = i == 0 ? &settings->mqtt : &settings->consumers[i - 1];
        char *own = place != NULL ? spool_path(settings, mqtt->client_id, place)
                                  : spool_client_path(settings, mqtt->client_id);

        owned = strcmp(own, dir) == 0;
        free(own);
    }
    return owned;
}

struct orphan_spools *orphan_spools_new(const struct settings *settings, const char *place,
                                        struct stats_slot *slot, bool look)
{
    struct orphan_spools *made = xcalloc(1, sizeof(*made));

    *made = (struct orphan_spools){.settings = settings, .place = place, .slot = slot};
    if (look)
        spool_list_read(&made->list, settings->supervisor.state_dir);
    for (size_t i = made->list.len; i > 0; i--)
        if (is_owned(settings, place, made->list.dirs[i - 1]))
            spool_list_remove(&made->list, i - 1);
    return made;
}

static const char *current_dir(const struct orphan_spools *orphans)
{
    return orphans->list.dirs[orphans->next];
}

/* One after the other -------------------------------------------------------------------------- */

static void close_current(struct orphan_spools *orphans)
{
    dispatch_free(orphans->dispatch);
    if (orphans->spool != NULL)
        spool_close(orphans->spool);
    orphans->dispatch = NULL;
    orphans->spool = NULL;
}

void orphan_spools_free(struct orphan_spools *orphans)
{
    close_current(orphans);
    spool_list_free(&orphans->list);
    free(orphans);
}

static void forget_current(struct orphan_spools *orphans)
{
    close_current(orphans);
    orphans->reason[0] = '\0';
    spool_list_remove(&orphans->list, orphans->next);
}

/* It has another turn later. */
static void put_off_current(struct orphan_spools *orphans, int64_t now_ms)
{
    close_current(orphans);
    orphans->next++;
    orphans->retry_ms = now_ms + RETRY_MS;
}

/* Another consumer has not begun at the present destination yet, and takes over from it first. */
static bool is_predecessor(const struct orphan_spools *orphans, const char *dir)
{
    const struct settings *settings = orphans->settings;
    bool found = false;

    for (size_t i = 0; i < settings->consumers_len && !found; i++) { /* [mqtt]'s own has begun */
        char *own = spool_path(settings, settings->consumers[i].client_id, orphans->place);
        char *before = predecessor_find(own);

        found = before != NULL && strcmp(before, dir) == 0;
        free(own);
        free(before);
    }
    return found;
}

/* A folder, if nothing else is in it; and what was known of the session of a client id that is no more. */
static bool remove_folder(const struct orphan_spools *orphans, const char *dir)
{
    if (!is_owned(orphans->settings, NULL, dir)) {
        static const char *const NAMES[] = {"subscriptions", "receiving"};

        for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++) {
            char *path = xasprintf("%s/%s", dir, NAMES[i]);

            unlink(path);
            free(path);
        }
    }
    return rmdir(dir) == 0;
}

/* The spool is open still: its lock keeps a consumer out that comes back to it. What is not ours, or was put
 * aside, stays, and the folder with it. */
static void remove_current(struct orphan_spools *orphans)
{
    const char *dir = current_dir(orphans);
    char *above = xstrndup(dir, (size_t)(strrchr(dir, '/') - dir));

    spool_remove_segments(orphans->spool);
    if (remove_folder(orphans, dir)) {
        log_notice(LOG_PLAIN, "Removed spool %s: no consumer owns it, and all of it was sent", dir);
        remove_folder(orphans, above);
    } else {
        log_notice(LOG_PLAIN,
                   "Emptied spool %s: no consumer owns it, and all of it was sent. The folder "
                   "stays, for it has other files too",
                   dir);
    }
    free(above);
}

static void open_next(struct orphan_spools *orphans, int64_t now_ms)
{
    const char *dir = current_dir(orphans);
    struct spool_options options = {.dir = dir,
                                    .size = orphans->settings->spool.size,
                                    .retain = orphans->settings->spool.retain,
                                    .client_id = strrchr(dir, '/') + 1,
                                    .destination = orphans->place};
    struct error err = {0};

    if (is_predecessor(orphans, dir)) {
        put_off_current(orphans, now_ms);
        return;
    }
    int result = dispatch_new(&orphans->dispatch, orphans->settings, orphans->slot, &err);

    if (result == 0)
        result = spool_open(&orphans->spool, &options, &err);
    else
        orphans->dispatch = NULL;
    if (result < 0) {
        orphans->spool = NULL;
        /* Locked: its consumer, which a reload has removed, has not ended yet. */
        if (!orphans->again && result != -ERR_LOCKED)
            log_warning(LOG_PLAIN, "No consumer owns spool %s, and it can't be opened: %s", dir,
                        err.text);
        put_off_current(orphans, now_ms);
        return;
    }
    const char *destination = spool_destination(orphans->spool);
    log_write(orphans->again ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
              LOG_WITH(log_number("messages", (int64_t)orphan_spools_unsent(orphans)),
                       log_text("destination", destination)),
              "No consumer owns spool %s (was a DSN or a client id changed?): sending what it "
              "has. The broker keeps a former client's session, with what is queued in it, until "
              "it expires",
              dir);
    orphans->turn_ms = now_ms;
    dispatch_start(orphans->dispatch, orphans->spool, destination);
}

static void finish_current(struct orphan_spools *orphans)
{
    uint64_t sent = dispatch_sent(orphans->dispatch);

    if (sent == 0)
        remove_current(orphans);
    else
        log_notice(LOG_WITH(log_number("messages", (int64_t)sent)),
                   "Spool %s, which no consumer owns, has been sent", current_dir(orphans));
    forget_current(orphans);
}

/* Each reason is logged once. */
static void note_reason(struct orphan_spools *orphans)
{
    char reason[sizeof(orphans->reason)];
    const char *dir = current_dir(orphans);
    const char *name = dir + strlen(orphans->settings->supervisor.state_dir) + strlen("/spool/");
    uint64_t unsent = orphan_spools_unsent(orphans);

    struct dispatch_health health = dispatch_health(orphans->dispatch);

    if (!health.in_trouble || unsent == 0) {
        orphans->reason[0] = '\0';
        return;
    }
    snprintf(reason, sizeof(reason), "spool %.*s, of no consumer, keeps %" PRIu64 " messages: %s",
             (int)strcspn(name, "/"), name, unsent, health.reason);
    if (strcmp(reason, orphans->reason) == 0)
        return;
    memcpy(orphans->reason, reason, sizeof(reason));
    log_error(LOG_WITH(log_text("spool", dir), log_number("messages", (int64_t)unsent)), "%s",
              reason);
}

/* The caller's --------------------------------------------------------------------------------- */

uint64_t orphan_spools_unsent(const struct orphan_spools *orphans)
{
    struct spool_state state = {0};

    if (orphans->spool != NULL)
        spool_state(orphans->spool, &state);
    return state.unsent_records;
}

const char *orphan_spools_reason(const struct orphan_spools *orphans)
{
    return orphans->reason;
}

struct pollfd orphan_spools_poll(const struct orphan_spools *orphans)
{
    return orphans->dispatch != NULL ? dispatch_poll(orphans->dispatch) : (struct pollfd){.fd = -1};
}

int64_t orphan_spools_deadline_ms(const struct orphan_spools *orphans)
{
    if (orphans->dispatch != NULL)
        return dispatch_deadline_ms(orphans->dispatch);
    if (orphans->next < orphans->list.len)
        return clock_monotonic_ms();
    return orphans->list.len > 0 ? orphans->retry_ms : -1;
}

void orphan_spools_process(struct orphan_spools *orphans, short revents, int64_t now_ms)
{
    if (orphans->dispatch == NULL) {
        if (orphans->next >= orphans->list.len && now_ms >= orphans->retry_ms) {
            orphans->next = 0;
            orphans->again = true;
        }
        if (orphans->next < orphans->list.len)
            open_next(orphans, now_ms);
        return;
    }
    dispatch_process(orphans->dispatch, revents, now_ms);
    note_reason(orphans);
    if (dispatch_is_done(orphans->dispatch))
        finish_current(orphans);
    else if (dispatch_health(orphans->dispatch).in_trouble && orphans->list.len > 1 &&
             now_ms >= orphans->turn_ms + TURN_MS)
        put_off_current(orphans, now_ms);
}
