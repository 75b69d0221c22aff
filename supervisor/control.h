/* The control socket: one JSON line in, one JSON line out, then the connection is closed.
 *
 *     {"verb":"status"}  {"verb":"health"}  {"verb":"reload"}
 *     {"verb":"start"}   {"verb":"stop"}    {"verb":"restart"}      all; stop: the whole service
 *     {"verb":"restart","target":"worker:2"}    {"verb":"scale","count":4}
 *     {"ok":true,…}      {"ok":false,"error":"…"}
 *
 * The socket is 0600; the other side must be root, the supervisor's user or the children's. A request
 * has at most CONTROL_REQUEST_MAX bytes. Nothing here blocks: who does not finish within
 * CONTROL_PATIENCE_MS (sending or reading) is dropped, and for one client more than CONTROL_CLIENTS_MAX
 * the oldest is. After the answer to `stop` of the whole service the connection stays open until the
 * service has ended, whoever else comes: its end of file is the news.
 * One thread. Watch control_fd for input and call control_process; call it at control_deadline too. */
#ifndef SUPERVISOR_CONTROL_H
#define SUPERVISOR_CONTROL_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <sys/types.h>

#define CONTROL_REQUEST_MAX 65536
#define CONTROL_PATIENCE_MS 5000
#define CONTROL_CLIENTS_MAX 16
#define CONTROL_TARGET_SIZE 80

enum control_verb {
    CONTROL_STATUS,
    CONTROL_HEALTH,
    CONTROL_START,
    CONTROL_STOP,
    CONTROL_RESTART,
    CONTROL_SCALE,
    CONTROL_RELOAD,
    CONTROL_VERBS_LEN
};

struct control_request {
    enum control_verb verb;
    char target[CONTROL_TARGET_SIZE]; /* "" : all */
    int64_t count;                    /* of scale */
};

/* Pure. The line comes without its end of line. -ERR_FORMAT, or -ERR_USAGE for a verb or an argument
 * that does not exist. */
MUST_CHECK int control_parse(struct bytes line, struct control_request *request, struct error *err);

/* Appends the reply, one line without its end. Returns true to keep the connection open behind it. */
typedef bool control_answer(void *context, const struct control_request *request,
                            struct buf *reply);

struct control;

/* A socket file that nobody listens on is replaced; -ERR_LOCKED if somebody does. The file is given to
 * owner, who may use it too ((uid_t)-1: nobody else). */
MUST_CHECK int control_open(struct control **control, const char *path, uid_t owner,
                            control_answer *answer, void *context, struct error *err);
int control_fd(const struct control *control);
void control_process(struct control *control, int64_t now_ms);
int64_t control_deadline(const struct control *control); /* -1: none */
/* Nobody new can come and the file is gone; who waits for the end still waits. */
void control_retire(struct control *control);
void control_close(struct control *control); /* NULL is allowed, as above */

#endif
