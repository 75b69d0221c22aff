/* The supervisor's place on this machine: its directories, the lock that keeps a second one out, the pid
 * file, the log file and the children's user. What can go wrong here is said with the setting's name.
 * With a user of their own the children could put links where root makes files: see path.h. */
#ifndef SUPERVISOR_PLACE_H
#define SUPERVISOR_PLACE_H

#include "common/base/settings.h"
#include "supervisor/process.h"

struct place {
    int lock_fd;    /* -1: none */
    char *pid_file; /* NULL: none was written */
};

/* Fills the user part of launch from [supervisor] user: "name" or "name:group"; "" leaves the user as
 * it is. -ERR_USAGE if there is no such user or we are not root. */
MUST_CHECK int place_user(struct launch *launch, const char *user, struct error *err);

/* Makes the state directory (0700, the user's) and the socket's directory, and locks the state directory.
 * -ERR_LOCKED names the supervisor that has it. Without root the socket's directory must be ours or root's:
 * in another's the commands could be answered by anybody. */
MUST_CHECK int place_take(struct place *place, const struct settings *settings,
                          const struct launch *launch, struct error *err);
/* Writes the pid file, if the settings name one: once the control socket is ours, for a supervisor that
 * finds another on it must not touch the other's. */
MUST_CHECK int place_say_pid(struct place *place, const struct settings *settings,
                             const struct launch *launch, struct error *err);
void place_leave(struct place *place); /* removes the pid file if it still names us */

/* Opens the log file for appending, making its directory if need be; without one a duplicate of standard
 * error. Close-on-exec. */
MUST_CHECK int place_open_log(const struct settings *settings, const struct launch *launch,
                              struct error *err);

/* The same file as fd for the supervisor itself: where it is a pipe or a terminal whose reader may stand
 * still, in a way that loses lines then instead of blocking (a description of its own, so that the
 * children's is not changed). -1 if there is no descriptor left. Close-on-exec. */
int place_own_log(int fd);

/* The directory of this very program, which holds the others. */
MUST_CHECK int place_programs(char **dir, struct error *err);

#endif
