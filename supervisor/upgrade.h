/* An upgrade: the supervisor's process executes the program that has replaced its own on disk.
 *
 *     the running supervisor                             the program on disk
 *     upgrade_begin runs its check                       --upgrade VERSION: settings, user, folder, log and the
 *                                                        programs beside it; prints the new version
 *     upgrade_handle_exit: PASSED, or REFUSED with why
 *     the service drains and ends (service.h)
 *     upgrade_execute                                    upgrade_inherit: takes over in the same process
 *
 * A refusal changes nothing. The new program gets the arguments, the environment, and one variable with the number of
 * workers and three descriptors. They are the client that waits, the control socket, and the lock. So clients may ask
 * meanwhile, and no other supervisor can take the lock in between. Everything else starts anew, as after a stop:
 * statistics count from 0. A program that does not know --upgrade refuses that option, and so is never executed. Only
 * upgrade_programs blocks. */
#ifndef SUPERVISOR_UPGRADE_H
#define SUPERVISOR_UPGRADE_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <signal.h>
#include <stdint.h>
#include <sys/types.h>

#define UPGRADE_OPTION       "upgrade" /* with the version of the running program */
#define UPGRADE_VERSION_SIZE 64
#define UPGRADE_CHECK_MS     10000 /* a check that takes longer has failed */

/* Zero-initialised: no upgrade is under way. */
struct upgrade {
    enum { UPGRADE_NONE, UPGRADE_CHECKING, UPGRADE_PASSED, UPGRADE_REFUSED } state;
    char *program;
    pid_t pid;     /* of the check; 0: none */
    int output_fd; /* memory that the check writes into; valid while pid is not 0 */
    int64_t deadline_ms;
    char version[UPGRADE_VERSION_SIZE]; /* PASSED: of the new program */
    struct buf refusal;                 /* REFUSED: the reason, perhaps several lines */
};

/* What the old program hands over. */
struct upgrade_handed {
    int client_fd; /* the client that waits for the answer; -1: none */
    int listen_fd; /* -1: none */
    int lock_fd;   /* -1: none */
    int64_t workers;
    int64_t configured;                /* the old program's [worker] count */
    char former[UPGRADE_VERSION_SIZE]; /* version of the old program */
};

/* Runs the check of the supervisor in bin_dir, with our arguments. A negative error: it can't be run. */
MUST_CHECK int upgrade_begin(struct upgrade *upgrade, const char *bin_dir, char *const *arguments,
                             int64_t now_ms, struct error *err);
/* The check has ended; info is waitid's, with WNOWAIT. Reaps it. */
void upgrade_handle_exit(struct upgrade *upgrade, const siginfo_t *info);
void upgrade_check_deadline(struct upgrade *upgrade, int64_t now_ms);
int64_t upgrade_deadline(const struct upgrade *upgrade); /* -1: none */
void upgrade_close(struct upgrade *upgrade);

/* Executes the program; returns only if that fails, with errno. */
void upgrade_execute(const char *program, char *const *arguments,
                     const struct upgrade_handed *handed);
/* Takes what the old program has handed over. `former` is "" if we were started in the usual way. */
void upgrade_inherit(struct upgrade_handed *handed);

/* A part of the check: the programs in the folder must run and have our version. -ERR_USAGE names the first that does
 * not. */
MUST_CHECK int upgrade_programs(const char *folder, struct error *err);

#endif
