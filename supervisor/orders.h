/* What the operator wants of the service, by signal or by command, and the steps that follow from it over
 * time. Nothing waits: orders_settle is called after whatever has happened and takes the next step of a
 * rolling restart and of the shutdown, forgets processes that are gone and no longer wanted, and says
 * when everything runs.
 *
 * Shutdown: from its beginning nobody is replaced. The consumers are asked to end; when they are gone the
 * workers drain; the monitor is last. Each has stop_timeout before SIGKILL.
 * Rolling restart: one worker after the other, the next when its forerunner's successor is ready (or has
 * not become so in ORDERS_ROLL_PATIENCE_MS). If a successor dies, the rest keeps running as it is. */
#ifndef SUPERVISOR_ORDERS_H
#define SUPERVISOR_ORDERS_H

#include "supervisor/service.h"

#define ORDERS_ROLL_PATIENCE_MS 30000

void orders_stop(struct service *service, int exit_code);
void orders_quit(struct service *service); /* at once */
/* -ERR_USAGE if there is no room for so many. */
MUST_CHECK int orders_scale(struct service *service, int64_t workers, struct error *err);
void orders_restart(struct service *service,
                    struct process *process); /* a running worker: in turn */
void orders_restart_workers(struct service *service);
void orders_reopen_logs(struct service *service);

void orders_settle(struct service *service);

#endif
