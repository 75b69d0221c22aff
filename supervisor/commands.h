/* The verbs of the control socket: what each does, and the reply (control.h has the line's form).
 * A verb that changes something answers at once, before it is done; `processes` in its reply says whom it
 * concerns and which pid each had, so that the asker can watch status until it is. */
#ifndef SUPERVISOR_COMMANDS_H
#define SUPERVISOR_COMMANDS_H

#include "supervisor/service.h"

/* A control_answer; context is the struct service. */
bool commands_answer(void *context, const struct control_request *request, struct buf *reply);

#endif
