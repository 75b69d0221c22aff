/* The control socket: one JSON line in, one JSON line out, then the connection is closed.
 *
 *     {"verb":"status"}  {"verb":"health"}  {"verb":"reload"}
 *     {"verb":"start"}   {"verb":"stop"}    {"verb":"restart"}      all; stop: the whole service
 *     {"verb":"events"}  {"verb":"signal","target":"worker:2","signal":"TERM"}
 *     {"verb":"restart","target":"worker:2 monitor"}    {"verb":"scale","count":4}
 *     {"ok":true,…}      {"ok":false,"error":"…"}       "unknown":true beside: there is no such process
 * Each request may name the bridge that is meant, by its state directory: "bridge":"/var/lib/mqtt-bridge".
 *
 * The socket is 0600; the client must be root or the supervisor's user. A request has at
 * most CONTROL_REQUEST_MAX bytes. Nothing here blocks: a client that does not finish within
 * CONTROL_TIMEOUT_MS (sending or reading) is dropped. One client more than CONTROL_CLIENTS_MAX pushes out the
 * oldest. After the reply to `stop` of the whole service the connection stays open until the service has
 * ended: its end of file says so. Such a connection is never pushed out.
 * One thread. Watch control_fd for input and call control_process; call it at control_deadline too. */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <limits.h>
#include <sys/types.h>

#define CONTROL_REQUEST_MAX 65536
#define CONTROL_TIMEOUT_MS  5000
#define CONTROL_CLIENTS_MAX 16
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
    CONTROL_SIGNAL,
    CONTROL_VERBS_LEN
};

struct control_request {
    enum control_verb verb;
    char target[CONTROL_TARGET_SIZE]; /* names with spaces between; "" : all */
    int64_t count;                    /* of scale */
    int signal;                       /* of signal: its number */
    char bridge[PATH_MAX]; /* whose bridge is meant: its state directory; "": whoever listens */
};

/* Pure. The line comes without its end of line. -ERR_FORMAT, or -ERR_USAGE for a verb or an argument
 * that does not exist. */
MUST_CHECK int control_parse(struct bytes line, struct control_request *request, struct error *err);

/* Appends the reply, one line without its end. Returns true to keep the connection open behind it. */
typedef bool control_answer(void *context, const struct control_request *request,
                            struct buf *reply);

struct control;

/* Replaces a socket file that no program listens on; -ERR_LOCKED if one does. */
MUST_CHECK int control_open(struct control **control, const char *path, control_answer *answer,
                            void *context, struct error *err);
int control_fd(const struct control *control);
void control_process(struct control *control, int64_t now_ms);
int64_t control_deadline(const struct control *control); /* -1: none */
/* Stops listening and removes the file. Clients that wait for the end keep their connection. */
void control_retire(struct control *control);
void control_close(struct control *control); /* NULL is allowed, as above */

#endif
