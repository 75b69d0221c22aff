/* A handler's process, and the lines to and from it. What they say is the business of handlers.h.
 *
 * It is started without a shell, in a process group of its own, with the worker's environment but for settings and secrets,
 * and dies with the worker. What it writes to standard error goes to the log, line by line. Nothing here blocks.
 *
 *   DOWN       start -> RUNNING
 *   RUNNING    end of its output, kill -> ENDING · finish, terminate -> FINISHING
 *   FINISHING  standard input is closed; SIGTERM, then SIGKILL to its group, where it does not end · its end -> ENDING
 *   ENDING     SIGKILL to its group; once it is reaped -> DOWN
 *
 * One thread. */
#ifndef WORKER_HANDLER_PROCESS_H
#define WORKER_HANDLER_PROCESS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

#include <poll.h>

#define HANDLER_PROCESS_FDS  3
#define HANDLER_LINE_MAX     (16 * 1024 * 1024) /* bytes of a line from it */
#define HANDLER_CAUSE_LENGTH 200

enum handler_process_state { HANDLER_DOWN, HANDLER_RUNNING, HANDLER_FINISHING, HANDLER_ENDING };

struct handler_process;

/* The settings outlive it, and have been checked. */
struct handler_process *handler_process_new(const struct settings *settings,
                                            const struct settings_handler *handler);
void handler_process_free(struct handler_process *process); /* SIGKILL, and nothing is waited for */

enum handler_process_state handler_process_state(const struct handler_process *process);
/* DOWN alone. That the program can't be run shows as an end of it. */
MUST_CHECK int handler_process_start(struct handler_process *process, struct error *err);
void handler_process_kill(struct handler_process *process, const char *why);
void handler_process_finish(struct handler_process *process);
/* The same, with SIGTERM at once. */
void handler_process_terminate(struct handler_process *process);
/* Why it is DOWN: what handler_process_kill was told, else exit code or signal; with its last line on standard error. */
const char *handler_process_cause(const struct handler_process *process);

/* Lines to it: append here. handler_process_step writes. */
struct buf *handler_process_out(struct handler_process *process);
/* The next line from it, without its end; it may be written to, and is valid until the next handler_process_read. */
bool handler_process_line(struct handler_process *process, char **text, size_t *len);
/* Reads what has come: where poll says so, or, fds NULL, what there is. */
void handler_process_read(struct handler_process *process, const struct pollfd *fds, unsigned len);

/* Writes, and does what is due. */
void handler_process_step(struct handler_process *process, int64_t now_ms);
int64_t handler_process_deadline_ms(const struct handler_process *process); /* -1: none */
unsigned handler_process_poll(const struct handler_process *process,
                              struct pollfd fds[HANDLER_PROCESS_FDS]);

#endif
