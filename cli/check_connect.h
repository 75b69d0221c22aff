/* Does every server answer as the bridge needs it? Connects to each, blocking, a few seconds at most. */
#ifndef CLI_CHECK_CONNECT_H
#define CLI_CHECK_CONNECT_H

#include "common/base/buf.h"
#include "common/base/settings.h"

struct check_server {
    char *name;  /* "broker", "redis", "failure transport", "hub" */
    char *place; /* "tcp://127.0.0.1:1883"; no password */
    bool ok;
    struct buf text; /* what is wrong and how to mend it; what to know, if ok */
};

struct check_servers {
    struct check_server *servers;
    size_t len;
};

void check_connect(const struct settings *settings, struct check_servers *servers);
void check_servers_free(struct check_servers *servers);

#endif
