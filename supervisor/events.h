/* What happens to a process: the event goes through states.h's table; this carries out what the table says
 * and tells it in the log, one line for each thing an operator would ask about. Nothing waits. */
#ifndef SUPERVISOR_EVENTS_H
#define SUPERVISOR_EVENTS_H

#include "supervisor/service.h"

/* Before EVENT_DONE, EVENT_SETTINGS and EVENT_FAILED: process_ended. */
void events_raise(struct service *service, struct process *process, enum event event);

#endif
