/* The control socket (SOCK_SEQPACKET): one packet with a request, one with the answer, then the connection ends.
 * docs/CONTROL.md has the requests and the answers.
 *
 * The socket's mode is 0600; the client must be root or the supervisor's user. An answer above CONTROL_PACKET_MAX is
 * sent as a descriptor of sealed memory, with a packet `{"ok":true}`. The kernel needs contiguous memory for a
 * packet, and nothing is kept here for a client that does not read.
 *
 * Nothing here blocks. A client without a request within CONTROL_TIMEOUT_MS is dropped. A client beyond
 * CONTROL_CLIENTS_MAX replaces the oldest one that does not wait for an answer; if all wait, one more is accepted.
 * CONTROL_WAITING_MAX clients may wait; the next request is refused before anything is done. Clients that wait for the
 * end of the service may bring that number to CONTROL_CLIENTS_MAX; the next is told that the end is under way. A client
 * that leaves while it waits does not cancel its request.
 * One thread. Watch control_fd for input and call control_process; call it at control_deadline too. */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "supervisor/upgrade.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>

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
    char target[CONTROL_TARGET_SIZE]; /* names separated by spaces; "": all, or the whole service */
    int64_t count;                    /* scale: the number of workers */
    int signal;                       /* signal: its number */
    char bridge[PATH_MAX]; /* state directory of the bridge that is meant; "": whichever listens */
    bool wait;             /* the answer comes when the request is done */

    /* Used by the answering function, for a request that waits: */
    bool begun;
    int64_t deadline_ms;               /* it is asked again not later than that; -1: no deadline */
    uint64_t since;                    /* launch.starts at the request: later starts belong to it */
    int64_t restarted;                 /* reload: number of restarted processes */
    struct buf affected;               /* titles of processes, separated by spaces */
    char former[UPGRADE_VERSION_SIZE]; /* upgrade, in the new program: version of the old one */
};

/* Pure. -ERR_FORMAT, or -ERR_USAGE for a verb or an argument that does not exist. The control frees `affected` of
 * clients' requests; for any other request the caller does. */
MUST_CHECK int control_parse(struct bytes packet, struct control_request *request,
                             struct error *err);

/* Returns the answer, which the control deletes; NULL: the client waits, and control_check asks again. */
typedef cJSON *control_answer(void *context, struct control_request *request);

/* {"ok":false,"error":"…"} */
cJSON *control_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct control;

/* listen_fd: a listening socket that was handed over, or -1. Without one, replaces a socket file that no program
 * listens on; -ERR_LOCKED if one listens, -ERR_USAGE if the file is no socket. */
MUST_CHECK int control_open(struct control **control, const char *path, int listen_fd,
                            control_answer *answer, void *context, struct error *err);
int control_fd(const struct control *control);
void control_process(struct control *control, int64_t now_ms);
/* Asks again for the answer of each client that waits. Call it after each event. */
void control_check(struct control *control);             /* NULL is allowed */
int64_t control_deadline(const struct control *control); /* -1: none */
/* For an upgrade: a second descriptor of the connection of the oldest client that waits for an answer to verb; -1:
 * there is none. control_close leaves it open, and the new program inherits it. */
int control_hand_over_client(const struct control *control, enum control_verb verb);
/* For an upgrade: a second descriptor of the listening socket. New clients wait on it from now on; clients that have
 * asked are answered. control_retire then leaves the socket's file. */
int control_hand_over(struct control *control);
/* In the new program: takes over a connection that was handed over. The request is copied. */
void control_adopt(struct control *control, int fd, const struct control_request *request);
/* In the new program, if it can't serve that connection: sends the text as the error, and closes it. fd may be -1. */
void control_refuse_handed(int fd, const char *text);
/* Stops listening and removes the file. Clients that wait keep their connection. */
void control_retire(struct control *control); /* NULL is allowed */
void control_close(struct control *control);  /* NULL is allowed */

#endif
