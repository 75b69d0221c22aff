/* The result of trying one server, as a line of text for people. */
#ifndef CLI_CHECK_SERVER_H
#define CLI_CHECK_SERVER_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* The longest wait for one answer: of a name server, of a server's connection, of each command. */
#define CHECK_TIMEOUT_MS 5000

struct check_server {
    char *name;    /* "broker", "broker of garden", "redis", "failure transport", "hub" */
    char *address; /* "tcp://127.0.0.1:1883"; no password */
    bool ok;
    struct buf
        text; /* what is wrong and what to do about it; if ok, what the operator should know */
};

struct check_servers {
    struct check_server *servers;
    size_t len;
};

/* The server counts as ok until check_server_fail. The pointer is valid until the next server is added. */
struct check_server *check_server_add(struct check_servers *servers, const char *name,
                                      const char *address);
void check_servers_free(struct check_servers *servers);

/* Adds a fault and what to do about it ("": `what` says that already). Further faults are appended. */
void check_server_fail(struct check_server *server, const char *what, const char *mend);
/* Adds something that the operator should know; the server stays ok. */
void check_server_note(struct check_server *server, const char *text);
/* An error's text without the address that often comes first. */
const char *check_server_text(const struct check_server *server, const struct error *err);

#endif
