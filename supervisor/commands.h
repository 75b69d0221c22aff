/* The verbs of the control socket: what each does, and its answer (docs/CONTROL.md).
 *
 * A verb that changes something is answered when the change is done, can't be done, or its time is up: COMMANDS_START_MS,
 * and for each process that it affects stop_timeout, since in a rolling restart each has its own turn. Until then
 * nothing is kept but the request, and it is judged anew after everything that happens.
 * Ready is what common/runtime/readiness.h says, as /readyz does. The supervisor adds two reasons: the service
 * is stopping; a process was given up, under on_fatal = unready. */
#ifndef SUPERVISOR_COMMANDS_H
#define SUPERVISOR_COMMANDS_H

#include "supervisor/service.h"

#define COMMANDS_START_MS 15000

/* A control_answer; context is the struct service. */
cJSON *commands_answer(void *context, struct control_request *request);

#endif
