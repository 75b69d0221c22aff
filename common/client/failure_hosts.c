#include "common/client/failure_hosts.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/client/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host {
    char *name;
    char *address;           /* of the DSN's own hostaddr; "": none */
    char *port;              /* "": the default */
    struct resolve *resolve; /* NULL: a socket's folder, or an address already */
    bool waiting;
    struct resolve_answer answer;
};

struct failure_hosts {
    struct host *list; /* empty: there is no name to look up, and no choice */
    size_t len;
    size_t first; /* which address of all hosts' comes first */
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

static void add_host(struct failure_hosts *hosts, struct bytes name, struct bytes address,
                     struct bytes port)
{
    struct host *host;

    hosts->list = xrealloc(hosts->list, (hosts->len + 1) * sizeof(*hosts->list));
    host = &hosts->list[hosts->len++];
    *host = (struct host){.name = xstrndup(name.data, name.len),
                          .address = xstrndup(address.data, address.len),
                          .port = xstrndup(port.data, port.len)};
    if (address.len == 0 && is_name(host->name))
        host->resolve = resolve_new(host->name);
}

static void clear(struct failure_hosts *hosts)
{
    for (size_t i = 0; i < hosts->len; i++) {
        resolve_free(hosts->list[i].resolve);
        free(hosts->list[i].name);
        free(hosts->list[i].address);
        free(hosts->list[i].port);
    }
    free(hosts->list);
    hosts->list = NULL;
    hosts->len = 0;
}

static size_t count_elements(struct bytes list)
{
    size_t count = list.len > 0 ? 1 : 0;

    for (size_t i = 0; i < list.len; i++)
        count += list.data[i] == ',';
    return count;
}

/* Empty if the list is, or has none there. */
static struct bytes element(struct bytes list, size_t place)
{
    struct bytes found;

    while (bytes_split(list, ',', &found, &list) && place > 0)
        place--;
    return place > 0 ? BYTES("") : found;
}

static void read_hosts(struct failure_hosts *hosts, const PQconninfoOption *options)
{
    struct bytes names = bytes_of(value_of(options, "host"));
    struct bytes addresses = bytes_of(value_of(options, "hostaddr"));
    struct bytes ports = bytes_of(value_of(options, "port"));
    size_t names_len = count_elements(names), ports_len = count_elements(ports);
    size_t len = addresses.len > 0 ? count_elements(addresses) : names_len;

    /* One port is all hosts'; lists that do not match are libpq's to complain about. */
    if ((names_len > 0 && names_len != len) || (ports_len > 1 && ports_len != len))
        return;
    for (size_t i = 0; i < len; i++)
        add_host(hosts, element(names, i), element(addresses, i),
                 element(ports, ports_len > 1 ? i : 0));
    if (len == 1 && hosts->list[0].resolve == NULL)
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

static size_t count_addresses(const struct host *host)
{
    return host->resolve != NULL ? host->answer.len : 1;
}

/* place: among the addresses of all hosts. */
static void add_address(struct lists *lists, const struct failure_hosts *hosts, size_t place)
{
    const struct host *host = hosts->list;

    for (; place >= count_addresses(host); host++)
        place -= count_addresses(host);
    add(lists, host, host->resolve != NULL ? host->answer.address[place] : host->address);
}

static void add_all(struct lists *lists, const struct failure_hosts *hosts, char why[200])
{
    size_t count = 0;

    for (size_t i = 0; i < hosts->len; i++) {
        const struct host *host = &hosts->list[i];

        count += count_addresses(host);
        if (count_addresses(host) == 0)
            snprintf(why, 200, "could not translate host name \"%.60s\" to address: %s", host->name,
                     host->answer.text);
    }
    for (size_t i = 0; i < count; i++)
        add_address(lists, hosts, (hosts->first + i) % count);
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
