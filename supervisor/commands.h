/* The verbs of the control socket: what each does, and its answer (docs/CONTROL.md).
 *
 * A verb that changes something is answered when the change is done, can't be done, or its time is up. That time is
 * COMMANDS_START_MS, and stop_timeout for each affected process, since a rolling restart stops one after the other.
 * Until then only the request is kept, and looked at again after each event.
 * Ready means what common/runtime/readiness.h says, as for /readyz. The supervisor adds two reasons: the service is
 * stopping; a process was given up, under on_fatal = unready. */
#ifndef SUPERVISOR_COMMANDS_H
#define SUPERVISOR_COMMANDS_H

#include "supervisor/service.h"

#define COMMANDS_START_MS 15000

/* The callback control_answer; context is the struct service. */
cJSON *commands_answer(void *context, struct control_request *request);

#endif
