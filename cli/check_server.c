#include "cli/check_server.h"

#include "cli/cli.h"
#include "common/base/alloc.h"

#include <stdlib.h>
#include <string.h>

struct check_server *check_server_add(struct check_servers *servers, const char *name,
                                      const char *address)
{
    size_t size = (servers->len + 1) * sizeof(*servers->servers);

    servers->servers = xrealloc(servers->servers, size);
    struct check_server *server = &servers->servers[servers->len++];
    *server = (struct check_server){.name = xstrdup(name), .address = xstrdup(address), .ok = true};
    return server;
}

void check_servers_free(struct check_servers *servers)
{
    for (size_t i = 0; i < servers->len; i++) {
        free(servers->servers[i].name);
        free(servers->servers[i].address);
        buf_free(&servers->servers[i].text);
    }
    free(servers->servers);
    *servers = (struct check_servers){0};
}

/* Appends a note. The text may come from a server, and is made printable. */
void check_server_note(struct check_server *server, const char *text)
{
    char *printable = cli_printable(bytes_of(text), strlen(text));

    buf_printf(&server->text, "%s%s", server->text.len > 0 ? "; " : "", printable);
    free(printable);
}

void check_server_fail(struct check_server *server, const char *what, const char *mend)
{
    server->ok = false;
    check_server_note(server, what);
    if (mend[0])
        check_server_note(server, mend);
}

const char *check_server_text(const struct check_server *server, const struct error *err)
{
    struct bytes text = bytes_of(err->text);
    struct bytes address = bytes_of(server->address);
    bool begins_with_it = bytes_starts_with(text, address) &&
                          bytes_starts_with(bytes_slice(text, address.len, text.len), BYTES(": "));

    return begins_with_it ? err->text + address.len + 2 : err->text;
}
