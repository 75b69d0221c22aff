/* What the service says of itself: the status as JSON, and whether it is ready.
 *
 * Ready: not stopping, every consumer runs, at least one worker does (unless none is wanted), every other
 * process that is meant to run does, and none of the running ones has a reason not to be ready. A process
 * that was given up is no longer meant to run under on_fatal = continue; under on_fatal = unready it
 * still is. */
#ifndef SUPERVISOR_STATUS_H
#define SUPERVISOR_STATUS_H

#include "supervisor/service.h"

#include <cjson/cJSON.h>

/* The members of the status reply: version, pid, uptime_s, ready, reasons, processes, queue, spool,
 * broker, hub. Reads each child's memory (PSS) from /proc. */
void status_report(const struct service *service, cJSON *reply);
/* The members ready and reasons alone. */
void status_health(const struct service *service, cJSON *reply);

/* Why the service as a whole is not ready (it is stopping; a process was given up under on_fatal =
 * unready), into its own slot of the statistics, where the monitor reads it. */
void status_say_own_reason(const struct service *service);

#endif
