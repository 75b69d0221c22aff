/* The verbs of the control socket: what each does, and the reply (control.h has the line's form).
 *
 * A verb that changes something answers before the change is done. `processes` in its reply names the
 * processes that it changes and the pid that each had, so that the asker can watch `status` for the change.
 * Ready is what common/runtime/readiness.h says, as /readyz does. The supervisor adds two reasons: the service
 * is stopping; a process was given up, under on_fatal = unready. Without a monitor that is meant to run,
 * nothing is known of the servers, and they are left out. */
#ifndef SUPERVISOR_COMMANDS_H
#define SUPERVISOR_COMMANDS_H

#include "supervisor/service.h"

/* A control_answer; context is the struct service. */
bool commands_answer(void *context, const struct control_request *request, struct buf *reply);

#endif
