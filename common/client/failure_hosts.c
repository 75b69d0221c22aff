#include "common/client/failure_hosts.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/client/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host {
    char *name;
    char *port;              /* "": the default */
    struct resolve *resolve; /* NULL: a socket's folder, or an address already */
    bool waiting;
    struct resolve_answer answer;
};

struct failure_hosts {
    struct host *list; /* empty: there is no name to look up */
    size_t len;
    size_t first; /* which address of a name comes first */
};

/* As libpq reads them, without its services: those are not among the options of a DSN. */
static const char *value_of(const PQconninfoOption *options, const char *keyword)
{
    const char *from_environment = NULL;

    for (; options->keyword != NULL; options++) {
        if (strcmp(options->keyword, keyword) != 0)
            continue;
        if (options->val != NULL)
            return options->val;
        if (options->envvar != NULL)
            from_environment = getenv(options->envvar);
    }
    return from_environment != NULL ? from_environment : "";
}

static bool is_name(const char *host)
{
    return host[0] != '\0' && host[0] != '/' && host[0] != '@' && !resolve_is_numeric(host);
}

static void add_host(struct failure_hosts *hosts, struct bytes name, struct bytes port)
{
    struct host *host;

    hosts->list = xrealloc(hosts->list, (hosts->len + 1) * sizeof(*hosts->list));
    host = &hosts->list[hosts->len++];
    *host =
        (struct host){.name = xstrndup(name.data, name.len), .port = xstrndup(port.data, port.len)};
    if (is_name(host->name))
        host->resolve = resolve_new(host->name);
}

static void clear(struct failure_hosts *hosts)
{
    for (size_t i = 0; i < hosts->len; i++) {
        resolve_free(hosts->list[i].resolve);
        free(hosts->list[i].name);
        free(hosts->list[i].port);
    }
    free(hosts->list);
    hosts->list = NULL;
    hosts->len = 0;
}

static void read_hosts(struct failure_hosts *hosts, const PQconninfoOption *options)
{
    struct bytes names = bytes_of(value_of(options, "host"));
    struct bytes ports = bytes_of(value_of(options, "port"));
    bool any = false, more = names.len > 0;
    /* One port is all hosts'; another number of them is libpq's to complain about. */
    bool one_port = ports.len == 0 || memchr(ports.data, ',', ports.len) == NULL;

    if (value_of(options, "hostaddr")[0] != '\0')
        return;
    while (more) {
        struct bytes name, port = ports;
        bool more_ports = false;

        more = bytes_split(names, ',', &name, &names);
        if (!one_port)
            more_ports = bytes_split(ports, ',', &port, &ports);
        add_host(hosts, name, port);
        any = any || hosts->list[hosts->len - 1].resolve != NULL;
        if (!one_port && more != more_ports)
            any = more = false;
    }
    if (!any)
        clear(hosts);
}

struct failure_hosts *failure_hosts_new(const char *conninfo)
{
    struct failure_hosts *made = xcalloc(1, sizeof(*made));
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);

    if (options == NULL)
        abort(); /* it was tried before */
    read_hosts(made, options);
    PQconninfoFree(options);
    return made;
}

void failure_hosts_free(struct failure_hosts *hosts)
{
    if (hosts == NULL)
        return;
    clear(hosts);
    free(hosts);
}

void failure_hosts_ask(struct failure_hosts *hosts)
{
    for (size_t i = 0; i < hosts->len; i++) {
        struct host *host = &hosts->list[i];

        host->answer = (struct resolve_answer){.text = "no answer in time"};
        host->waiting = host->resolve != NULL;
        if (host->waiting)
            resolve_ask(host->resolve);
    }
}

bool failure_hosts_process(struct failure_hosts *hosts)
{
    bool all = true;

    for (size_t i = 0; i < hosts->len; i++) {
        struct host *host = &hosts->list[i];

        if (host->waiting && resolve_take(host->resolve, &host->answer))
            host->waiting = false;
        all = all && !host->waiting;
    }
    return all;
}

int failure_hosts_fd(const struct failure_hosts *hosts)
{
    for (size_t i = 0; i < hosts->len; i++)
        if (hosts->list[i].waiting)
            return resolve_fd(hosts->list[i].resolve);
    return -1;
}

/* The values of three options, which are lists of the same length. */
struct lists {
    struct buf host;
    struct buf hostaddr;
    struct buf port;
    size_t len;
};

static void add(struct lists *lists, const struct host *host, const char *address)
{
    const char *comma = lists->len++ > 0 ? "," : "";

    buf_printf(&lists->host, "%s%s", comma, host->name);
    buf_printf(&lists->hostaddr, "%s%s", comma, address);
    buf_printf(&lists->port, "%s%s", comma, host->port);
}

static void add_all(struct lists *lists, const struct failure_hosts *hosts, char why[200])
{
    for (size_t i = 0; i < hosts->len; i++) {
        const struct host *host = &hosts->list[i];
        size_t len = host->answer.len;

        if (host->resolve == NULL)
            add(lists, host, "");
        else if (len == 0)
            snprintf(why, 200, "could not translate host name \"%.60s\" to address: %s", host->name,
                     host->answer.text);
        for (size_t j = 0; j < len; j++)
            add(lists, host, host->answer.address[(hosts->first + j) % len]);
    }
}

PGconn *failure_hosts_connect(const struct failure_hosts *hosts, const char *conninfo,
                              char why[200])
{
    struct lists lists = {0};
    PGconn *connection = NULL;

    add_all(&lists, hosts, why);
    if (hosts->len == 0) {
        connection = PQconnectStart(conninfo);
    } else if (lists.len > 0) {
        /* What stands behind dbname, which is expanded, is put over it. */
        const char *const keywords[] = {"dbname", "host", "hostaddr", "port", NULL};
        const char *const values[] = {conninfo, buf_text(&lists.host), buf_text(&lists.hostaddr),
                                      buf_text(&lists.port), NULL};

        connection = PQconnectStartParams(keywords, values, 1);
    }
    if (connection == NULL && (hosts->len == 0 || lists.len > 0))
        abort(); /* only for want of memory */
    buf_free(&lists.host);
    buf_free(&lists.hostaddr);
    buf_free(&lists.port);
    return connection;
}

void failure_hosts_rotate(struct failure_hosts *hosts)
{
    hosts->first++;
}
