/* A handler's process, and the lines to and from it. What the lines say: handlers.h.
 *
 * The process is started without a shell, in a process group of its own. It has the worker's environment without
 * settings and secrets, and dies with the worker. Its standard error goes to the log, line by line. Nothing here
 * blocks.
 *
 *   DOWN       start -> RUNNING
 *   RUNNING    it closes its input or output -> ENDING, with SIGKILL after 2 s · kill -> ENDING, with SIGKILL at once ·
 *              finish, terminate -> FINISHING
 *   FINISHING  input is closed; SIGTERM after 1 s, SIGKILL after 2 s -> ENDING
 *   ENDING     its output is read further, unless `kill` was called
 *
 * In each state: once it has exited, its group is killed, and its output is read as far as it is filled -> DOWN. So a
 * child of it that holds its output does not hide its end. Signals go to its group.
 *
 * One thread. */
#ifndef WORKER_HANDLER_PROCESS_H
#define WORKER_HANDLER_PROCESS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

#include <poll.h>

#define HANDLER_PROCESS_FDS  4
#define HANDLER_LINE_MAX     (16 * 1024 * 1024) /* bytes of a line that the handler writes */
#define HANDLER_CAUSE_LENGTH 200

enum handler_process_state { HANDLER_DOWN, HANDLER_RUNNING, HANDLER_FINISHING, HANDLER_ENDING };

struct handler_process;

/* The settings outlive it, and have been checked. */
struct handler_process *handler_process_new(const struct settings *settings,
                                            const struct settings_handler *handler);
void handler_process_free(struct handler_process *process); /* SIGKILL, without waiting */

enum handler_process_state handler_process_state(const struct handler_process *process);
/* Allowed when DOWN. A program that can't be executed shows as a process that ended. */
MUST_CHECK int handler_process_start(struct handler_process *process, struct error *err);
void handler_process_kill(struct handler_process *process, const char *why);
void handler_process_finish(struct handler_process *process);
/* As handler_process_finish, with SIGTERM at once. */
void handler_process_terminate(struct handler_process *process);
/* Why the process is DOWN: the reason given to handler_process_kill, else the end that it closed, else exit code or
 * signal. The last line that it wrote on standard error is added. */
const char *handler_process_cause(const struct handler_process *process);

/* Append lines for the handler here; handler_process_step writes them. */
struct buf *handler_process_out(struct handler_process *process);
/* The next line from the handler, without its line end; also one that it wrote before its end, when it is DOWN. The
 * caller may change the text, which is valid until the next read or step. */
bool handler_process_line(struct handler_process *process, char **text, size_t *len);
/* Reads from the descriptors that poll found ready, and notices its exit; fds NULL: from all, without waiting. */
void handler_process_read(struct handler_process *process, const struct pollfd *fds, unsigned len);

/* Writes lines, and sends signals that are due. */
void handler_process_step(struct handler_process *process, int64_t now_ms);
int64_t handler_process_deadline_ms(const struct handler_process *process); /* -1: none */
unsigned handler_process_poll(const struct handler_process *process,
                              struct pollfd fds[HANDLER_PROCESS_FDS]);

#endif
