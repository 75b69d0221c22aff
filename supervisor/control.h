/* The control socket (SOCK_SEQPACKET): one packet with a request, one with the answer, then the connection ends.
 * docs/CONTROL.md has the requests and the answers.
 *
 * The socket is 0600; the client must be root or the supervisor's user. An answer above CONTROL_PACKET_MAX comes as a
 * descriptor of sealed memory that holds it, with a packet that says no more: the kernel needs one piece of memory for a
 * packet, and nothing is kept here for a client that does not read.
 *
 * Nothing here blocks. A client that has not asked within CONTROL_TIMEOUT_MS is dropped. One client more than
 * CONTROL_CLIENTS_MAX pushes out the oldest that does not wait for its answer; where all wait there is a place for one
 * more. CONTROL_WAITING_MAX may wait; the next is refused before anything is done for it. Those that wait for the end of
 * the service may be CONTROL_CLIENTS_MAX with them; the next is told that it is under way. A client that goes away while it
 * waits takes nothing back.
 * One thread. Watch control_fd for input and call control_process; call it at control_deadline too. */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "supervisor/upgrade.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define CONTROL_PACKET_MAX  65536
#define CONTROL_TIMEOUT_MS  5000
#define CONTROL_CLIENTS_MAX 16
#define CONTROL_WAITING_MAX 12
#define CONTROL_TARGET_SIZE 4096

enum control_verb {
    CONTROL_STATUS,
    CONTROL_HEALTH,
    CONTROL_START,
    CONTROL_STOP,
    CONTROL_RESTART,
    CONTROL_SCALE,
    CONTROL_RELOAD,
    CONTROL_EVENTS,
    CONTROL_LOG,
    CONTROL_SIGNAL,
    CONTROL_UPGRADE,
    CONTROL_VERBS_LEN
};

struct control_request {
    enum control_verb verb;
    char target[CONTROL_TARGET_SIZE]; /* names with spaces between; "": all; of stop: the service */
    int64_t count;                    /* of scale */
    int signal;                       /* of signal: its number */
    char bridge[PATH_MAX]; /* whose bridge is meant: its state directory; "": whoever listens */
    bool wait;             /* for the answer until what is asked for has been done */

    /* Of who answers, for a request that waits. */
    bool begun;
    int64_t deadline_ms;               /* asked again then at the latest; -1: none */
    uint64_t since;                    /* who was started later was started for it */
    int64_t restarted;                 /* of reload */
    struct buf affected;               /* titles of processes with spaces between */
    char former[UPGRADE_VERSION_SIZE]; /* of upgrade, in the new program: which it was before */
};

/* Pure. -ERR_FORMAT, or -ERR_USAGE for a verb or an argument that does not exist. Of another request than that of a
 * client, `affected` is the caller's to free. */
MUST_CHECK int control_parse(struct bytes packet, struct control_request *request,
                             struct error *err);

/* Returns the answer, which control deletes; NULL: the client waits, and control_check asks again. */
typedef cJSON *control_answer(void *context, struct control_request *request);

/* {"ok":false,"error":"…"} */
cJSON *control_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct control;

/* listen_fd: of a listening socket that was handed over, which is taken, or -1. Else replaces a socket that no program
 * listens on; -ERR_LOCKED if one does, -ERR_USAGE if it is no socket. */
MUST_CHECK int control_open(struct control **control, const char *path, int listen_fd,
                            control_answer *answer, void *context, struct error *err);
int control_fd(const struct control *control);
void control_process(struct control *control, int64_t now_ms);
/* Asks anew for each client that waits. Call it after everything that happens. */
void control_check(struct control *control);             /* NULL is allowed */
int64_t control_deadline(const struct control *control); /* -1: none */
/* A second descriptor of the connection of the oldest client that waits for an answer to verb, which control_close leaves
 * open and a program that we become inherits; -1: there is none. */
int control_hand_over_client(const struct control *control, enum control_verb verb);
/* Likewise of the listening socket, on which new clients wait from now on; who has asked is answered. control_retire leaves
 * the file. */
int control_hand_over(struct control *control);
/* Such a connection in the program that we have become. The request is copied. Takes the descriptor. */
void control_adopt(struct control *control, int fd, const struct control_request *request);
/* Such a connection that can't be served: says why, and ends it. -1: nothing is done. */
void control_give_up(int fd, const char *text);
/* Stops listening and removes the file. Clients that wait keep their connection. */
void control_retire(struct control *control); /* NULL is allowed */
void control_close(struct control *control);  /* likewise */

#endif
