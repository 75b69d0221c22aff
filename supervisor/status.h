/* What the service says of itself: the status as JSON, and whether it is ready.
 *
 * Ready is what common/base/readiness.h says, as /readyz does. Two things of it are the supervisor's word: that
 * the service is stopping, and that a process was given up, which counts under on_fatal = unready only.
 * Without a monitor that is meant to run, nothing is known of the servers, and they are not asked for. */
#ifndef SUPERVISOR_STATUS_H
#define SUPERVISOR_STATUS_H

#include "supervisor/service.h"

#include <cjson/cJSON.h>

/* The members of the status reply: version, pid, uptime_s, ready, reasons, processes, queue, spool,
 * broker, hub. Reads each child's memory (PSS) from /proc. */
void status_report(const struct service *service, cJSON *reply);
/* The members ready and reasons alone. */
void status_health(const struct service *service, cJSON *reply);

/* Into the statistics, where the monitor reads it: why the service as a whole is not ready, and why each
 * process that is not there is not. */
void status_say_reasons(const struct service *service);

#endif
