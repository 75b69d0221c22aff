/* What became of trying one server: a line of text for people. */
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
    struct buf text; /* what is wrong and how to mend it; what to know, if ok */
};

struct check_servers {
    struct check_server *servers;
    size_t len;
};

/* Well until it is said to have failed; the pointer holds until the next one is added. */
struct check_server *check_server_add(struct check_servers *servers, const char *name,
                                      const char *address);
void check_servers_free(struct check_servers *servers);

/* Something is wrong, and how to mend it ("": that is said already). Several are put behind each other. */
void check_server_fail(struct check_server *server, const char *what, const char *mend);
void check_server_note(struct check_server *server, const char *text); /* ok, but to be known */
/* An error's text without the address that often stands before it. */
const char *check_server_words(const struct check_server *server, const struct error *err);

#endif
