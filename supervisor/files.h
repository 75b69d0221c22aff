/* The files that the supervisor opens, and the user that it opens them as: the lock that keeps a second supervisor out of
 * the state directory, the pid file, the log. Errors name the setting.
 *
 * The supervisor gives up root before it opens anything: what follows, and all children, have the user's rights alone.
 * Root makes what the settings name and the user can't make: the folders of state, socket, pid file and log, and these
 * two files. What it has made it gives to the user, and nothing else: a folder that was there and is not the user's is
 * refused by whoever opens it. Root makes things only where nobody else could have put a link. */
#ifndef SUPERVISOR_FILES_H
#define SUPERVISOR_FILES_H

#include "common/base/error.h"
#include "common/settings/settings.h"

struct files {
    int error_fd; /* standard error for the supervisor itself, opened while it had the right to; -1: none */
    int lock_fd;    /* -1: none */
    char *pid_file; /* NULL: none was written */
};

/* Makes the folders, gives up root if [supervisor] user is set, and the right to gain any more by a program. HOME becomes
 * that user's. -ERR_USAGE: there is no such user, or we are not root and not that user. */
MUST_CHECK int files_become_user(const struct settings *settings, struct error *err);
/* -ERR_USAGE with the mend, if what is at path, which we may not use, belongs to another user; else 0. A version that
 * stayed root may have left it. */
MUST_CHECK int files_refuse_foreign(const char *key, const char *path, struct error *err);

/* Of a program that would take over from a running one, with the user and the rights of that: would they do? Changes
 * nothing but that a missing log file is made. -ERR_USAGE. */
MUST_CHECK int files_check(const struct settings *settings, struct error *err);

/* Locks the state directory; lock_fd is one that was handed over, which is taken, or -1. -ERR_LOCKED names the supervisor that has it; -ERR_USAGE: it is another user's. */
MUST_CHECK int files_open(struct files *files, const struct settings *settings, int lock_fd,
                          struct error *err);
/* Writes the pid file, if the settings name one. Call it once the control socket is ours: a supervisor that
 * finds another on the socket must not touch the other's pid file. */
MUST_CHECK int files_write_pid(struct files *files, const struct settings *settings,
                               struct error *err);
/* For the program that we become: a second descriptor of the lock, which it inherits. files_close leaves lock and pid file. */
int files_hand_over(struct files *files);
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
