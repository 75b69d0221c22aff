#include "consumer/orphan_spools.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "consumer/spool/segment.h"
#include "consumer/spool/spool.h"
#include "consumer/spool/spool_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS 60000

struct orphan {
    char *dir;
    bool said; /* that it can't be opened */
};

struct orphan_spools {
    const struct settings *settings;
    const char *place; /* the consumers' destination */
    struct stats_slot *slot;
    struct orphan *list; /* those that are still to be sent */
    size_t len;
    size_t next;
    int64_t retry_ms;    /* when to begin anew with those that could not be opened */
    struct spool *spool; /* of list[next], while it is at work */
    struct dispatch *dispatch;
    char reason[STATS_REASON_SIZE + 100]; /* why it is not sent, as it was logged last */
};

static bool is_segment(int dir, const char *name)
{
    struct segment *segment = NULL;
    struct error err = {0};
    uint64_t number;

    if (!segment_name_parse(name, "segment", &number))
        return false;
    int result = segment_open(&segment, dir, number, &err);
    segment_free(segment);
    return result == 0 || result == -ERR_REFUSED; /* a later version's */
}

/* Somebody's backup or a lost+found may lie beside the spools. */
static bool is_spool(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool found = false;

    while (!found && listing != NULL && (entry = readdir(listing)) != NULL)
        found = is_segment(fd, entry->d_name);
    if (listing != NULL)
        closedir(listing);
    else if (fd >= 0)
        close(fd);
    return found;
}

/* Of a consumer, or the folder above. */
static bool is_owned(const struct orphan_spools *orphans, const char *dir)
{
    const struct settings *settings = orphans->settings;
    bool owned = false;

    for (size_t i = 0; i <= settings->consumers_len && !owned; i++) {
        const struct settings_mqtt *mqtt = i == 0 ? &settings->mqtt : &settings->consumers[i - 1];
        char *own = spool_path(settings, mqtt->client_id, orphans->place);
        char *above = spool_client_path(settings, mqtt->client_id);

        owned = strcmp(own, dir) == 0 || strcmp(above, dir) == 0;
        free(own);
        free(above);
    }
    return owned;
}

/* The folders in `above`, and, `levels` deep, those in them. */
static void look_for(struct orphan_spools *orphans, const char *above, int levels)
{
    DIR *listing = opendir(above);
    const struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        /* Names begin with a dot only where they are not ours: spool_path.h. */
        if (entry->d_name[0] == '.')
            continue;
        char *dir = xasprintf("%s/%s", above, entry->d_name);
        if (levels > 1)
            look_for(orphans, dir, levels - 1);
        if (!is_spool(dir) || (levels == 1 && is_owned(orphans, dir))) {
            free(dir);
            continue;
        }
        orphans->list = xrealloc(orphans->list, (orphans->len + 1) * sizeof(*orphans->list));
        orphans->list[orphans->len++] = (struct orphan){.dir = dir};
    }
    if (listing != NULL)
        closedir(listing);
}

struct orphan_spools *orphan_spools_new(const struct settings *settings, const char *place,
                                        struct stats_slot *slot)
{
    struct orphan_spools *made = xcalloc(1, sizeof(*made));
    char *above = xasprintf("%s/spool", settings->supervisor.state_dir);

    *made = (struct orphan_spools){.settings = settings, .place = place, .slot = slot};
    look_for(made, above, 2);
    free(above);
    return made;
}

static void close_current(struct orphan_spools *orphans)
{
    dispatch_free(orphans->dispatch);
    if (orphans->spool != NULL)
        spool_close(orphans->spool);
    orphans->dispatch = NULL;
    orphans->spool = NULL;
    orphans->reason[0] = '\0';
}

void orphan_spools_free(struct orphan_spools *orphans)
{
    if (orphans == NULL)
        return;
    close_current(orphans);
    for (size_t i = 0; i < orphans->len; i++)
        free(orphans->list[i].dir);
    free(orphans->list);
    free(orphans);
}

static void forget_next(struct orphan_spools *orphans)
{
    struct orphan *orphan = &orphans->list[orphans->next];

    free(orphan->dir);
    orphans->len--;
    memmove(orphan, orphan + 1, (orphans->len - orphans->next) * sizeof(*orphan));
}

/* The folder of a client id that no consumer has, if nothing but its subscriptions is left there. */
static void remove_client_folder(const struct orphan_spools *orphans, const char *dir)
{
    char *above = xstrndup(dir, (size_t)(strrchr(dir, '/') - dir));
    char *subscriptions = xasprintf("%s/subscriptions", above);
    char *all = xasprintf("%s/spool", orphans->settings->supervisor.state_dir);

    if (strcmp(above, all) != 0 && !is_owned(orphans, above)) {
        unlink(subscriptions);
        rmdir(above);
    }
    free(all);
    free(subscriptions);
    free(above);
}

/* The spool is open still: its lock keeps a consumer out that comes back to it. What is not ours, or was put
 * aside as damaged, stays, and the folder with it. */
static void remove_spool(const struct orphan_spools *orphans, const char *dir)
{
    spool_remove_segments(orphans->spool);
    if (rmdir(dir) == 0) {
        log_notice(LOG_PLAIN, "Removed spool %s: no consumer owns it, and all of it was sent", dir);
        remove_client_folder(orphans, dir);
        return;
    }
    log_notice(LOG_PLAIN,
               "Emptied spool %s: no consumer owns it, and all of it was sent. The folder stays, "
               "for it has other files too",
               dir);
}

static void skip_next(struct orphan_spools *orphans, const struct error *err)
{
    struct orphan *orphan = &orphans->list[orphans->next++];

    /* Locked: its consumer, which a reload has removed, has not ended yet. */
    if (!orphan->said && err->code != ERR_LOCKED) {
        log_warning(LOG_PLAIN, "No consumer owns spool %s, and it can't be opened: %s", orphan->dir,
                    err->text);
        orphan->said = true;
    }
    orphans->spool = NULL;
    orphans->retry_ms = clock_monotonic_ms() + RETRY_MS;
    close_current(orphans);
}

static void open_next(struct orphan_spools *orphans)
{
    const char *dir = orphans->list[orphans->next].dir;
    struct error err = {0};

    if (!is_spool(dir)) { /* not any more */
        forget_next(orphans);
        return;
    }
    if (dispatch_new(&orphans->dispatch, orphans->settings, orphans->slot, &err) < 0) {
        orphans->dispatch = NULL;
        skip_next(orphans, &err);
        return;
    }
    struct spool_options options = {.dir = dir,
                                    .size = orphans->settings->spool.size,
                                    .retain = orphans->settings->spool.retain,
                                    .client_id = strrchr(dir, '/') + 1,
                                    .destination = dispatch_place(orphans->dispatch)};
    if (spool_open(&orphans->spool, &options, &err) < 0) {
        skip_next(orphans, &err);
        return;
    }
    log_warning(LOG_WITH(log_number("messages", (int64_t)orphan_spools_unsent(orphans))),
                "No consumer owns spool %s (was a client id changed?): sending what it has. "
                "The broker keeps that client's session, with what is queued in it, until it "
                "expires",
                dir);
    dispatch_start(orphans->dispatch, orphans->spool);
}

static void finish_current(struct orphan_spools *orphans)
{
    const char *dir = orphans->list[orphans->next].dir;
    uint64_t sent = dispatch_sent(orphans->dispatch);

    if (sent == 0)
        remove_spool(orphans, dir);
    else
        log_notice(LOG_WITH(log_number("messages", (int64_t)sent)),
                   "Spool %s, which no consumer owns, has been sent", dir);
    close_current(orphans);
    forget_next(orphans);
}

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

/* Each reason is logged once. */
static void note_reason(struct orphan_spools *orphans)
{
    char reason[sizeof(orphans->reason)];
    uint64_t unsent = orphan_spools_unsent(orphans);

    if (!dispatch_is_in_trouble(orphans->dispatch) || unsent == 0) {
        orphans->reason[0] = '\0';
        return;
    }
    const char *dir = orphans->list[orphans->next].dir;
    snprintf(reason, sizeof(reason), "spool %.40s, of no consumer, keeps %" PRIu64 " messages: %s",
             strrchr(dir, '/') + 1, unsent, dispatch_reason(orphans->dispatch));
    if (strcmp(reason, orphans->reason) == 0)
        return;
    memcpy(orphans->reason, reason, sizeof(reason));
    log_error(LOG_WITH(log_text("spool", dir), log_number("messages", (int64_t)unsent)), "%s",
              reason);
}

void orphan_spools_poll(const struct orphan_spools *orphans, struct pollfd fds[DISPATCH_POLL_FDS])
{
    for (int i = 0; i < DISPATCH_POLL_FDS; i++)
        fds[i] = (struct pollfd){.fd = -1};
    if (orphans->dispatch != NULL)
        dispatch_poll(orphans->dispatch, fds);
}

int64_t orphan_spools_deadline_ms(const struct orphan_spools *orphans)
{
    if (orphans->dispatch != NULL)
        return dispatch_deadline_ms(orphans->dispatch);
    if (orphans->next < orphans->len)
        return clock_monotonic_ms();
    return orphans->len > 0 ? orphans->retry_ms : -1;
}

void orphan_spools_process(struct orphan_spools *orphans,
                           const struct pollfd fds[DISPATCH_POLL_FDS], int64_t now_ms)
{
    if (orphans->dispatch == NULL) {
        if (orphans->next >= orphans->len && now_ms >= orphans->retry_ms)
            orphans->next = 0;
        if (orphans->next < orphans->len)
            open_next(orphans);
        return;
    }
    dispatch_process(orphans->dispatch, fds, now_ms);
    note_reason(orphans);
    if (dispatch_is_done(orphans->dispatch))
        finish_current(orphans);
}
