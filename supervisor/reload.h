/* SIGHUP and `mqtt-bridge reload`: the settings are read and checked anew. If anything is wrong with them
 * nothing changes. Else only the processes that a change concerns (roster.h) are restarted, workers one
 * after the other; processes that are new or gone are started or stopped; the number of workers follows
 * the file if the file's number has changed (what `scale` did stays otherwise). [supervisor] state_dir,
 * socket, pid_file and user stay as they are until the next start, which is said. */
#ifndef SUPERVISOR_RELOAD_H
#define SUPERVISOR_RELOAD_H

#include "supervisor/service.h"

/* Returns how many processes are restarted, or -ERR_USAGE with every fault as a line in faults. What
 * happened is in the log either way. */
MUST_CHECK int reload_settings(struct service *service, struct buf *faults);

#endif
