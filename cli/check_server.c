#include "cli/check_server.h"

#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct check_server *check_server_add(struct check_servers *servers, const char *name,
                                      const char *place)
{
    size_t size = (servers->len + 1) * sizeof(*servers->servers);
    servers->servers = xrealloc(servers->servers, size);
    struct check_server *server = &servers->servers[servers->len++];
    *server = (struct check_server){.name = xstrdup(name), .place = xstrdup(place), .ok = true};
    return server;
}

void check_servers_free(struct check_servers *servers)
{
    for (size_t i = 0; i < servers->len; i++) {
        free(servers->servers[i].name);
        free(servers->servers[i].place);
        buf_free(&servers->servers[i].text);
    }
    free(servers->servers);
    *servers = (struct check_servers){0};
}

void check_server_note(struct check_server *server, const char *text)
{
    buf_printf(&server->text, "%s%s", server->text.len > 0 ? "; " : "", text);
}

void check_server_fail(struct check_server *server, const char *what, const char *mend)
{
    server->ok = false;
    check_server_note(server, what);
    if (mend[0]) {
        check_server_note(server, mend);
    }
}

const char *check_server_words(const struct check_server *server, const struct error *err)
{
    struct bytes text = bytes_of(err->text);
    struct bytes place = bytes_of(server->place);
    bool placed = bytes_starts_with(text, place) &&
                  bytes_starts_with(bytes_slice(text, place.len, text.len), BYTES(": "));
    return placed ? err->text + place.len + 2 : err->text;
}
