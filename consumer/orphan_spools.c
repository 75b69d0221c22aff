#include "consumer/orphan_spools.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/client/oversized_file.h"
#include "common/client/spool_folders.h"
#include "common/wire/segment_header.h"
#include "consumer/dispatch/dispatch.h"
#include "consumer/mqtt/subscriptions.h"
#include "consumer/spool/spool.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS 1000  /* wait before the next spool, if this one could not be sent */
#define OPEN_MS  10000 /* time for a spool that can't be sent, while others wait */
#define COUNT_MS 5000  /* interval of counting files, since an operator may remove some */

struct orphan {
    char *dir;
    bool logged;
    bool sent; /* this process has sent messages of the spool */
};

struct orphan_spools {
    const struct settings *settings;
    const char *destination;
    struct stats_slot *slot;
    bool look;
    struct orphan *list; /* spools still to be sent; the first is open, or opened next */
    size_t len;
    int64_t open_ms;     /* when to open the next spool */
    int64_t opened_ms;   /* when the open spool was opened */
    struct spool *spool; /* NULL: none is open */
    struct dispatch *dispatch;
    char reason[STATS_REASON_SIZE + 100]; /* why it is not sent, as logged last */
    uint64_t oversized_messages;
    uint64_t oversized_bytes;
    int64_t count_ms; /* when to count the files again */
};

/* True if dir is the spool of a configured consumer. With destination NULL: if dir is the folder
 * of its client id. */
static bool is_owned(const struct settings *settings, const char *destination, const char *dir)
{
    bool owned = false;

    for (size_t i = 0; i <= settings->consumers_len && !owned; i++) {
        const struct settings_mqtt *mqtt = settings_mqtt_at(settings, i);
        char *own = spool_path(settings, mqtt->client_id, destination);

        owned = strcmp(own, dir) == 0;
        free(own);
    }
    return owned;
}

struct orphan_spools *orphan_spools_new(const struct settings *settings, const char *destination,
                                        struct stats_slot *slot, bool look)
{
    struct orphan_spools *made = xcalloc(1, sizeof(*made));
    struct spool_folders folders = {0};

    *made = (struct orphan_spools){
        .settings = settings, .destination = destination, .slot = slot, .look = look};
    if (look)
        (void)spool_folders_read(&folders, settings->supervisor.state_dir, NULL);
    made->list = xcalloc(folders.len + 1, sizeof(*made->list));
    for (size_t i = 0; i < folders.len; i++)
        if (!is_owned(settings, destination, folders.paths[i]) &&
            spool_path_holds_spool(folders.paths[i]))
            made->list[made->len++].dir = xstrdup(folders.paths[i]);
    spool_folders_free(&folders);
    return made;
}

static const char *current_dir(const struct orphan_spools *orphans)
{
    return orphans->list[0].dir;
}

static void count_file(void *context, const char *name, const struct oversized_message *message)
{
    struct orphan_spools *orphans = context;

    (void)name;
    orphans->oversized_messages++;
    orphans->oversized_bytes += message->record.topic.len + message->record.payload.len;
}

/* Counts the files in all folders, even in folders without segments and those of other
 * consumers. */
static void count_oversized(struct orphan_spools *orphans, int64_t now_ms)
{
    struct spool_folders folders;

    if (!orphans->look || now_ms < orphans->count_ms)
        return;
    orphans->count_ms = now_ms + COUNT_MS;
    orphans->oversized_messages = orphans->oversized_bytes = 0;
    (void)spool_folders_read(&folders, orphans->settings->supervisor.state_dir, NULL);
    for (size_t i = 0; i < folders.len; i++) {
        int dir = open(folders.paths[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (dir >= 0)
            (void)oversized_file_list(dir, count_file, orphans, NULL);
        file_close(&dir);
    }
    spool_folders_free(&folders);
}

static void close_current(struct orphan_spools *orphans)
{
    dispatch_free(orphans->dispatch);
    spool_close(orphans->spool);
    orphans->dispatch = NULL;
    orphans->spool = NULL;
}

void orphan_spools_free(struct orphan_spools *orphans)
{
    close_current(orphans);
    for (size_t i = 0; i < orphans->len; i++)
        free(orphans->list[i].dir);
    free(orphans->list);
    free(orphans);
}

static struct orphan take_current(struct orphan_spools *orphans)
{
    struct orphan current = orphans->list[0];

    close_current(orphans);
    orphans->len--;
    memmove(orphans->list, orphans->list + 1, orphans->len * sizeof(current));
    return current;
}

static void forget_current(struct orphan_spools *orphans)
{
    free(take_current(orphans).dir);
    orphans->reason[0] = '\0';
}

/* Moves the open spool to the end of the list. */
static void put_off_current(struct orphan_spools *orphans, int64_t now_ms)
{
    if (orphans->dispatch != NULL && dispatch_health(orphans->dispatch).sent > 0)
        orphans->list[0].sent = true;
    struct orphan current = take_current(orphans);
    orphans->list[orphans->len++] = current;
    orphans->open_ms = now_ms + RETRY_MS;
}

/* True if a consumer still has to take over from this spool: the consumer has not yet begun at
 * the present destination. */
static bool is_previous(const struct orphan_spools *orphans, const char *dir)
{
    const struct settings *settings = orphans->settings;
    bool found = false;

    for (size_t i = 0; i < settings->consumers_len && !found; i++) { /* that of [mqtt] runs here */
        char *own = spool_path(settings, settings->consumers[i].client_id, orphans->destination);
        char *previous = spool_path_previous(own);

        found = previous != NULL && strcmp(previous, dir) == 0;
        free(own);
        free(previous);
    }
    return found;
}

/* Removes the folder if it is empty. If no consumer has the client id, the session's files are
 * removed first. */
static bool remove_folder(const struct orphan_spools *orphans, const char *dir)
{
    /* .new files are left by a process that was killed while replacing the file */
    static const char *const OF_SESSION[4] = {SUBSCRIPTIONS_FILE, SUBSCRIPTIONS_FILE ".new",
                                              SPOOL_CURRENT, SPOOL_CURRENT ".new"};

    size_t count = is_owned(orphans->settings, NULL, dir) ? 0 : 4;

    for (size_t i = 0; i < count; i++) {
        char *path = xasprintf("%s/%s", dir, OF_SESSION[i]);

        unlink(path);
        free(path);
    }
    return rmdir(dir) == 0;
}

/* Removes the segments, and the folders if they hold no other files, such as damaged segments.
 * The spool stays open: its lock keeps out a consumer that is configured again. */
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

static void beat(void *slot)
{
    stats_beat(slot);
}

static int open_current(struct orphan_spools *orphans, struct error *err)
{
    struct spool_options options = {.dir = current_dir(orphans),
                                    .size = orphans->settings->spool.size,
                                    .retain = orphans->settings->spool.retain,
                                    .destination = orphans->destination,
                                    .progress = beat,
                                    .context = orphans->slot};
    int result = dispatch_new(&orphans->dispatch, orphans->settings, orphans->slot, err);

    return result == 0 ? spool_open(&orphans->spool, &options, err) : result;
}

static void open_next(struct orphan_spools *orphans, int64_t now_ms)
{
    const char *dir = current_dir(orphans);
    bool is_new = !orphans->list[0].logged;
    struct error err = {0};
    int result = is_previous(orphans, dir) ? -ERR_LOCKED : open_current(orphans, &err);

    orphans->list[0].logged = true;
    if (result < 0) {
        /* A locked spool still has its consumer, which a reload has removed but which has not
         * ended yet. */
        if (is_new && result != -ERR_LOCKED)
            log_warning(LOG_PLAIN, "No consumer owns spool %s, and it can't be opened: %s", dir,
                        err.text);
        put_off_current(orphans, now_ms);
        return;
    }
    const char *destination = spool_destination(orphans->spool);
    log_write(is_new ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
              LOG_WITH(log_number("messages", (int64_t)orphan_spools_state(orphans).unsent),
                       log_text("destination", destination)),
              "No consumer owns spool %s (was a DSN or a client id changed?): sending what it "
              "has. The broker keeps a former client's session, with what is queued in it, until "
              "it expires",
              dir);
    orphans->opened_ms = now_ms;
    dispatch_start(orphans->dispatch, orphans->spool, destination);
}

static void finish_current(struct orphan_spools *orphans)
{
    uint64_t sent = dispatch_health(orphans->dispatch).sent;

    if (sent == 0 && !orphans->list[0].sent)
        remove_current(orphans);
    else
        log_notice(LOG_WITH(log_number("messages", (int64_t)sent)),
                   "Spool %s, which no consumer owns, has been sent", current_dir(orphans));
    forget_current(orphans);
}

/* Logs the reason why the spool is not sent, each reason once. */
static void note_reason(struct orphan_spools *orphans)
{
    char reason[sizeof(orphans->reason)];
    const char *dir = current_dir(orphans);
    const char *name = dir + strlen(orphans->settings->supervisor.state_dir) + strlen("/spool/");
    uint64_t unsent = orphan_spools_state(orphans).unsent;

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

struct orphan_spools_state orphan_spools_state(const struct orphan_spools *orphans)
{
    struct spool_state current = {0};

    if (orphans->spool != NULL)
        spool_state(orphans->spool, &current);
    return (struct orphan_spools_state){
        .unsent = current.unsent_records,
        .oversized_messages = orphans->oversized_messages,
        .oversized_bytes = orphans->oversized_bytes,
        .reason = orphans->reason,
    };
}

struct pollfd orphan_spools_poll(const struct orphan_spools *orphans)
{
    return orphans->dispatch != NULL ? dispatch_poll(orphans->dispatch) : (struct pollfd){.fd = -1};
}

int64_t orphan_spools_deadline_ms(const struct orphan_spools *orphans)
{
    if (orphans->dispatch != NULL)
        return dispatch_deadline_ms(orphans->dispatch);
    return orphans->len > 0 ? orphans->open_ms : -1;
}

void orphan_spools_process(struct orphan_spools *orphans, short revents, int64_t now_ms)
{
    count_oversized(orphans, now_ms);
    if (orphans->dispatch == NULL) {
        if (orphans->len > 0 && now_ms >= orphans->open_ms)
            open_next(orphans, now_ms);
        return;
    }
    dispatch_process(orphans->dispatch, revents, now_ms);
    note_reason(orphans);
    if (dispatch_is_done(orphans->dispatch))
        finish_current(orphans);
    else if (dispatch_health(orphans->dispatch).in_trouble && orphans->len > 1 &&
             now_ms >= orphans->opened_ms + OPEN_MS)
        put_off_current(orphans, now_ms);
}
