/* The files that the supervisor opens, and the user that it opens them as. The files are the lock, which keeps a second
 * supervisor out of the state directory, the pid file and the log. Errors name the setting.
 *
 * The supervisor gives up root before it opens anything: from then on it and all children have the user's rights only.
 * As root it makes what the user can't make: the folders of state, socket, pid file and log, the pid file and the log.
 * It gives the user what it has made, and nothing else: opening an existing folder of another user then fails. As root
 * it makes nothing where another user could have put a link. */
#ifndef SUPERVISOR_FILES_H
#define SUPERVISOR_FILES_H

#include "common/base/error.h"
#include "common/settings/settings.h"

struct files {
    int error_fd; /* the supervisor's own standard error, opened before root is given up; -1: none */
    int lock_fd;  /* -1: none */
    char *pid_file; /* NULL: none was written */
};

/* Makes the folders. If [supervisor] user is set, gives up root, and the right to gain rights by executing a program;
 * HOME becomes that user's. -ERR_USAGE: there is no such user, or we are neither root nor that user. */
MUST_CHECK int files_become_user(const struct settings *settings, struct error *err);
/* -ERR_USAGE, with what to do, if a file or folder that we may not use belongs to another user; else 0. An earlier
 * version, which stayed root, may have left it. */
MUST_CHECK int files_refuse_foreign(const char *key, const char *path, struct error *err);

/* A part of an upgrade's check: whether a start as this user and with these rights would succeed. Changes nothing, but
 * makes a missing log file. -ERR_USAGE. */
MUST_CHECK int files_check(const struct settings *settings, struct error *err);

/* Locks the state directory. lock_fd: a lock that the old program has handed over, or -1. -ERR_LOCKED names the
 * supervisor that has the lock; -ERR_USAGE: the directory is another user's. */
MUST_CHECK int files_open(struct files *files, const struct settings *settings, int lock_fd,
                          struct error *err);
/* Writes the pid file, if the settings name one. Call it when the control socket is ours: a supervisor that finds
 * another one on the socket must not touch that one's pid file. */
MUST_CHECK int files_write_pid(struct files *files, const struct settings *settings,
                               struct error *err);
/* For an upgrade: a second descriptor of the lock, which the new program inherits. files_close then leaves lock and pid
 * file. */
int files_hand_over(struct files *files);
/* Removes the pid file if it still names us; if its folder does not allow that, empties it. */
void files_close(struct files *files);

/* Opens the log file for appending; without one a duplicate of standard error. Close-on-exec. */
MUST_CHECK int files_open_log(const struct settings *settings, struct error *err);

/* A second descriptor of the log, for the supervisor itself, which never blocks: a pipe or terminal without a reader
 * loses lines. The children's descriptor is not affected. -1 if no descriptor is left. Close-on-exec. */
int files_open_own_log(const struct files *files, int fd);

/* The directory of this program's file, which holds the other programs too. */
MUST_CHECK int files_locate_programs(char **dir, struct error *err);

#endif
