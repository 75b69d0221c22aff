/* The files that the supervisor opens: the lock that keeps a second supervisor out of the state directory, the pid file,
 * the log. account_become has made their folders. Errors name the setting. */
#ifndef SUPERVISOR_FILES_H
#define SUPERVISOR_FILES_H

#include "common/base/error.h"
#include "common/settings/settings.h"

struct files {
    int error_fd; /* standard error for the supervisor itself, opened while it had the right to; -1: none */
    int lock_fd;    /* -1: none */
    char *pid_file; /* NULL: none was written */
};

/* Locks the state directory. -ERR_LOCKED names the supervisor that has it; -ERR_USAGE: it is another user's. */
MUST_CHECK int files_open(struct files *files, const struct settings *settings, struct error *err);
/* Writes the pid file, if the settings name one. Call it once the control socket is ours: a supervisor that
 * finds another on the socket must not touch the other's pid file. */
MUST_CHECK int files_write_pid(struct files *files, const struct settings *settings,
                               struct error *err);
/* Removes the pid file if it still names us; where its folder does not allow that, empties it. */
void files_close(struct files *files);

/* Opens the log file for appending; without one a duplicate of standard error. Close-on-exec. */
MUST_CHECK int files_open_log(const struct settings *settings, struct error *err);

/* A second descriptor of the log, for the supervisor itself. A pipe or a terminal whose reader stands
 * still loses lines on it instead of blocking; the children's descriptor is not changed by that.
 * -1 if there is no descriptor left. Close-on-exec. */
int files_open_own_log(const struct files *files, int fd);

/* The directory of this very program, which holds the other programs. */
MUST_CHECK int files_locate_programs(char **dir, struct error *err);

#endif
