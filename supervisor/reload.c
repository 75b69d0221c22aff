#include "supervisor/reload.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "common/wire/settings_verify.h"
#include "supervisor/events.h"
#include "supervisor/orders.h"
#include "supervisor/roster.h"

#include <stdlib.h>
#include <string.h>

static void log_faults(const struct buf *faults)
{
    struct bytes rest = buf_bytes(faults);
    struct bytes line;

    log_error(LOG_PLAIN, "Settings not reloaded: they have faults; nothing has changed");
    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        if (line.len > 0)
            log_error(LOG_PLAIN, "%.*s", BYTES_ARG(line));
    }
}

static void keep(const char *key, char **fresh, char *const *present)
{
    if (strcmp(*fresh, *present) == 0)
        return;
    log_warning(LOG_PLAIN, "[supervisor] %s: takes effect at the next start of the service", key);
    free(*fresh);
    *fresh = xstrdup(*present);
}

static void keep_what_can_not_change(struct settings *fresh, const struct settings *present)
{
    keep("state_dir", &fresh->supervisor.state_dir, &present->supervisor.state_dir);
    keep("socket", &fresh->supervisor.socket, &present->supervisor.socket);
    keep("pid_file", &fresh->supervisor.pid_file, &present->supervisor.pid_file);
    keep("user", &fresh->supervisor.user, &present->supervisor.user);
}

static void adopt_worker_count(struct service *service, const struct settings *fresh)
{
    int64_t count = fresh->worker.count;

    if (count == service->settings->worker.count)
        return;
    if (count > service->workers_max) {
        log_error(LOG_PLAIN, "[worker] count: %lld takes a restart of the service; %lld for now",
                  (long long)count, (long long)service->workers_max);
        count = service->workers_max;
    }
    service->workers = count;
}

static void reopen_log_if_moved(struct service *service, const struct settings *before)
{
    struct error err = {0};

    if (strcmp(before->log.file, service->settings->log.file) == 0)
        return;
    int fd = place_open_log(service->settings, &service->launch, &err);
    if (fd < 0) {
        log_error(LOG_PLAIN, "%s; the log stays where it was", err.text);
        return;
    }
    service_use_log(service, fd);
}

/* Of those that are there already: who comes now starts with the new settings. Whom an earlier reload
 * concerned and who was not started since, for that rolling restart was given up, still is. */
static void mark_concerned(const struct service *service, const struct settings *before)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (roster_concerned(before, service->settings, process->kind, process->name))
            process->concerned = true;
    }
}

static int restart_concerned(struct service *service)
{
    int restarted = 0;

    for (size_t i = 0; i < service->processes_len; i++) {
        struct process *process = service->processes[i];

        if (!process->concerned || process->unwanted)
            continue;
        /* Whoever comes after them has the new settings without our asking. */
        if (process->life.state == STATE_STOPPED || process->life.state == STATE_STOPPING)
            continue;
        orders_restart(service, process);
        restarted++;
    }
    return restarted;
}

int reload_settings(struct service *service, struct buf *faults)
{
    struct settings *fresh = NULL;

    if (settings_load_verified(&fresh, service->config, settings_verify, faults) < 0) {
        log_faults(faults);
        return -ERR_USAGE;
    }
    struct settings *before = service->settings;
    keep_what_can_not_change(fresh, before);
    adopt_worker_count(service, fresh);
    service->settings = fresh;
    reopen_log_if_moved(service, before);
    service_use_settings(service);

    mark_concerned(service, before);
    service_follow_roster(service);
    int restarted = restart_concerned(service);
    settings_free(before);
    log_info(LOG_WITH(log_number("restarted", restarted)), "Settings reloaded");
    return restarted;
}
