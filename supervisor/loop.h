/* The supervisor's one wait: signals, the control socket, what the children say, deadlines.
 *
 * epoll, one event at a time, so that nothing that one event frees can have another one waiting. As PID 1
 * or subreaper whatever else ends here is reaped too. */
#ifndef SUPERVISOR_LOOP_H
#define SUPERVISOR_LOOP_H

#include "supervisor/service.h"

/* Blocks the signals and opens their descriptor and the control socket. */
MUST_CHECK int loop_open(struct service *service, struct error *err);
void loop_run(struct service *service); /* returns when the service has ended */

#endif
