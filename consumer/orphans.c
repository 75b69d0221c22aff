#include "consumer/orphans.h"

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "consumer/place.h"
#include "consumer/spool.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct orphans {
    const struct settings *settings;
    struct stats_slot *slot;
    char **dirs;
    size_t dirs_len;
    size_t next;
    struct spool *spool; /* of dirs[next - 1], while it is at work */
    struct dispatch *dispatch;
};

static bool is_owned(const struct settings *settings, const char *dir)
{
    bool owned = false;

    for (size_t i = 0; i <= settings->consumers_len && !owned; i++) {
        const struct settings_mqtt *mqtt = i == 0 ? &settings->mqtt : &settings->consumers[i - 1];
        char *own = place_of_spool(settings, mqtt->client_id);

        owned = strcmp(own, dir) == 0;
        free(own);
    }
    return owned;
}

struct orphans *orphans_new(const struct settings *settings, struct stats_slot *slot)
{
    struct orphans *made = xcalloc(1, sizeof(*made));
    char *above = place_of_spool(settings, "");
    DIR *listing = opendir(above);
    const struct dirent *entry;

    *made = (struct orphans){.settings = settings, .slot = slot};
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *dir = xasprintf("%s%s", above, entry->d_name);

        /* Names begin with a dot only where they are not ours: place.h. */
        if (entry->d_name[0] == '.' || is_owned(settings, dir)) {
            free(dir);
            continue;
        }
        made->dirs = xrealloc(made->dirs, (made->dirs_len + 1) * sizeof(*made->dirs));
        made->dirs[made->dirs_len++] = dir;
    }
    if (listing != NULL)
        closedir(listing);
    free(above);
    return made;
}

static void close_current(struct orphans *orphans)
{
    dispatch_free(orphans->dispatch);
    if (orphans->spool != NULL)
        spool_close(orphans->spool);
    orphans->dispatch = NULL;
    orphans->spool = NULL;
}

void orphans_free(struct orphans *orphans)
{
    if (orphans == NULL)
        return;
    close_current(orphans);
    for (size_t i = 0; i < orphans->dirs_len; i++)
        free(orphans->dirs[i]);
    free(orphans->dirs);
    free(orphans);
}

/* A spool's folder has only files. */
static void remove_spool(const char *dir)
{
    DIR *listing = opendir(dir);
    const struct dirent *entry;

    while (listing != NULL && (entry = readdir(listing)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing != NULL)
        closedir(listing);
    if (rmdir(dir) == 0)
        log_notice(LOG_PLAIN, "Removed spool %s: no consumer owns it, and all of it was sent", dir);
}

static void open_next(struct orphans *orphans)
{
    const char *dir = orphans->dirs[orphans->next++];
    struct error err = {0};

    if (dispatch_new(&orphans->dispatch, orphans->settings, orphans->slot, &err) < 0)
        return; /* the consumer's own says it */
    struct spool_options options = {.dir = dir,
                                    .size = orphans->settings->spool.size,
                                    .retain = orphans->settings->spool.retain,
                                    .client_id = strrchr(dir, '/') + 1,
                                    .destination = dispatch_place(orphans->dispatch)};
    if (spool_open(&orphans->spool, &options, &err) < 0) {
        log_warning(LOG_PLAIN, "No consumer owns spool %s, and it can't be opened: %s", dir,
                    err.text);
        orphans->spool = NULL;
        close_current(orphans);
        return;
    }
    log_warning(LOG_PLAIN,
                "No consumer owns spool %s (was a client id changed?): sending what it has. "
                "The broker keeps that client's session, with what is queued in it, until it "
                "expires",
                dir);
    dispatch_start(orphans->dispatch, orphans->spool);
}

static void finish_current(struct orphans *orphans)
{
    const char *dir = orphans->dirs[orphans->next - 1];
    uint64_t sent = dispatch_sent(orphans->dispatch);

    close_current(orphans);
    if (sent == 0)
        remove_spool(dir);
    else
        log_notice(LOG_WITH(log_number("messages", (int64_t)sent)),
                   "Spool %s, which no consumer owns, has been sent", dir);
}

void orphans_poll(const struct orphans *orphans, struct pollfd fds[DISPATCH_POLL_FDS])
{
    for (int i = 0; i < DISPATCH_POLL_FDS; i++)
        fds[i] = (struct pollfd){.fd = -1};
    if (orphans->dispatch != NULL)
        dispatch_poll(orphans->dispatch, fds);
}

int64_t orphans_deadline_ms(const struct orphans *orphans)
{
    if (orphans->dispatch != NULL)
        return dispatch_deadline_ms(orphans->dispatch);
    return orphans->next < orphans->dirs_len ? clock_monotonic_ms() : -1;
}

void orphans_process(struct orphans *orphans, const struct pollfd fds[DISPATCH_POLL_FDS],
                     int64_t now_ms)
{
    if (orphans->dispatch == NULL) {
        if (orphans->next < orphans->dirs_len)
            open_next(orphans);
        return;
    }
    dispatch_process(orphans->dispatch, fds, now_ms);
    if (dispatch_is_done(orphans->dispatch))
        finish_current(orphans);
}
