#include "supervisor/roster.h"

#include "common/base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct roster *roster, enum process_kind kind, int number, const char *name)
{
    struct roster_place *place = &roster->places[roster->len++];

    place->kind = kind;
    place->number = number;
    snprintf(place->name, sizeof(place->name), "%s", name);
}

static void consumer_name(char out[PROCESS_NAME_SIZE], const struct settings_mqtt *mqtt)
{
    snprintf(out, PROCESS_NAME_SIZE, "consumer:%.60s", mqtt->name);
}

void roster_plan(struct roster *roster, const struct settings *settings, int64_t workers)
{
    size_t most = settings->consumers_len + (size_t)workers + 2;
    char name[PROCESS_NAME_SIZE];

    *roster = (struct roster){.places = xcalloc(most, sizeof(*roster->places))};
    add(roster, PROCESS_CONSUMER, 0, "consumer");
    for (size_t i = 0; i < settings->consumers_len; i++) {
        consumer_name(name, &settings->consumers[i]);
        add(roster, PROCESS_CONSUMER, 0, name);
    }
    for (int i = 1; i <= (int)workers; i++)
        add(roster, PROCESS_WORKER, i, "worker");
    add(roster, PROCESS_MONITOR, 0, "monitor");
}

bool roster_has(const struct roster *roster, const struct process *process)
{
    for (size_t i = 0; i < roster->len; i++) {
        const struct roster_place *place = &roster->places[i];
        int number = place->number > 0 ? place->number : 1;

        if (place->kind == process->kind && number == process->number &&
            strcmp(place->name, process->name) == 0)
            return true;
    }
    return false;
}

void roster_free(struct roster *roster)
{
    free(roster->places);
    *roster = (struct roster){0};
}

/* In a copy of the settings whatever does not concern the process is replaced by `neutral`'s, so that
 * two packed copies differ exactly when something differs that does. Nothing is owned by the copy. */
static void leave_only(struct settings *copy, const struct settings *neutral,
                       enum process_kind kind, const char *name)
{
    char own[PROCESS_NAME_SIZE];

    copy->worker.count = neutral->worker.count;
    copy->supervisor.start_retries = neutral->supervisor.start_retries;
    copy->supervisor.on_fatal = neutral->supervisor.on_fatal;
    copy->supervisor.state_dir = neutral->supervisor.state_dir;
    copy->supervisor.socket = neutral->supervisor.socket;
    copy->supervisor.pid_file = neutral->supervisor.pid_file;
    copy->supervisor.user = neutral->supervisor.user;
    if (kind == PROCESS_MONITOR)
        return;
    copy->http = neutral->http;
    if (kind == PROCESS_WORKER) {
        copy->mqtt = neutral->mqtt;
        copy->consumers = neutral->consumers;
        copy->consumers_len = neutral->consumers_len;
        copy->spool = neutral->spool;
        return;
    }
    copy->worker = neutral->worker;
    copy->retry = neutral->retry;
    copy->mercure = neutral->mercure;
    copy->routes = neutral->routes;
    copy->routes_len = neutral->routes_len;
    struct settings_mqtt *all = copy->consumers;
    size_t all_len = copy->consumers_len;
    copy->consumers = NULL;
    copy->consumers_len = 0;
    if (strcmp(name, "consumer") == 0)
        return;
    copy->mqtt = neutral->mqtt;
    for (size_t i = 0; i < all_len; i++) {
        consumer_name(own, &all[i]);
        if (strcmp(own, name) == 0) {
            copy->consumers = &all[i];
            copy->consumers_len = 1;
        }
    }
}

static bool has_client_id(const struct settings *settings, const char *client_id)
{
    bool found = strcmp(settings->mqtt.client_id, client_id) == 0;

    for (size_t i = 0; i < settings->consumers_len && !found; i++)
        found = strcmp(settings->consumers[i].client_id, client_id) == 0;
    return found;
}

/* The consumer of [mqtt] sends what lies in a spool that nobody owns any more: it must know of that. */
static bool leaves_orphan(const struct settings *before, const struct settings *after)
{
    bool found = false;

    for (size_t i = 0; i < before->consumers_len && !found; i++)
        found = !has_client_id(after, before->consumers[i].client_id);
    return found;
}

bool roster_concerned(const struct settings *before, const struct settings *after,
                      enum process_kind kind, const char *name)
{
    struct settings old = *before;
    struct settings new = *after;
    struct buf old_text = {0};
    struct buf new_text = {0};

    leave_only(&old, before, kind, name);
    leave_only(&new, before, kind, name);
    settings_pack(&old, &old_text);
    settings_pack(&new, &new_text);
    bool concerned = !bytes_equal(buf_bytes(&old_text), buf_bytes(&new_text));
    if (kind == PROCESS_CONSUMER && strcmp(name, "consumer") == 0)
        concerned = concerned || leaves_orphan(before, after);
    buf_free(&old_text);
    buf_free(&new_text);
    return concerned;
}
