/* What our own code does with a request. The first lines are a header Host, [http] hosts and a path. Only names that
 * are listed, `localhost` and addresses pass. No path names anything but a plain file. The same two are the query of
 * /latest: no filter passes that a broker would refuse. The rest is what connections do: none is above its limits, the
 * newest stays, and each has a deadline. */
#include "common/wire/topic.h"
#include "monitor/connections.h"
#include "monitor/request.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FDS 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static char *copy_of(struct bytes text)
{
    char *copy = calloc(1, text.len + 1);

    require(copy != NULL);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    return copy;
}

/* The slow way to say that a browser can be made to believe no site's name is this. */
static bool is_safe_everywhere(const char *name)
{
    struct in6_addr address;

    return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &address) == 1 ||
           inet_pton(AF_INET6, name, &address) == 1;
}

static bool is_listed(const char *hosts, const char *name)
{
    struct bytes rest = bytes_of(hosts), item;

    while (bytes_next_item(&rest, &item)) {
        char *text = copy_of(item);
        bool same = strcmp(text, "*") == 0 || strcasecmp(text, name) == 0;

        free(text);
        if (same)
            return true;
    }
    return false;
}

static void check_host(struct bytes given, const char *hosts)
{
    struct bytes name = request_host_name(given);
    char *text = copy_of(name);

    require(name.len <= given.len);
    for (size_t i = 0; i < name.len; i++)
        require(isalnum((unsigned char)text[i]) || strchr(".-_:", text[i]) != NULL);
    if (request_host_is_allowed(given, hosts, "page.lan:80"))
        require(is_listed(hosts, text) || is_safe_everywhere(text) ||
                strcasecmp(text, "page.lan") == 0);
    if (name.len > 0 && is_listed(hosts, text))
        require(request_host_is_allowed(given, hosts, "page.lan:80"));
    require(request_host_is_allowed(given, "*", ""));
    free(text);
}

static void check_path(const char *path)
{
    require(request_content_type(path) != NULL);
    if (!request_file_name_is_safe(path))
        return;
    require(path[0] != '\0' && path[0] != '.' && strpbrk(path, "/\\%:~") == NULL);
}

static void check_query(const char *filter, const char *cursor)
{
    struct request_query query;
    struct error err;

    if (request_query_read(&query, filter, cursor, &err) < 0) {
        require(err.code == ERR_USAGE && err.text[0] != '\0');
        return;
    }
    require(topic_filter_check(bytes_of(query.filter), &err) == 0);
    require(strlen(query.filter) <= strlen(filter));
    free(query.filter);
}

static size_t count_of(const struct connections *connections, const struct connection *like)
{
    size_t count = 0;

    for (size_t i = 0; i < connections->len; i++)
        count += memcmp(connections->items[i].address, like->address, sizeof like->address) == 0;
    return count;
}

static bool holds(const struct connections *connections, int fd)
{
    for (size_t i = 0; i < connections->len; i++)
        if (connections->items[i].fd == fd)
            return true;
    return false;
}

static void check_limits(const struct connections *connections)
{
    require(connections->len <= CONNECTIONS_MAX);
    require((connections_deadline(connections) < 0) == (connections->len == 0));
    for (size_t i = 0; i < connections->len; i++)
        require(count_of(connections, &connections->items[i]) <= CONNECTIONS_PER_ADDRESS);
}

static void add(struct connections *connections, int fd, uint8_t from, int64_t now_ms)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {htonl(0x0a000000u + from % 7)}};
    size_t len = connections->len;

    if (holds(connections, fd))
        return;
    int ends = connections_add(connections, fd, (struct sockaddr *)&v4, now_ms);
    require(ends != fd && holds(connections, fd));
    require(ends < 0 ? connections->len == len + 1 : !holds(connections, ends));
}

static void check_connections(struct bytes steps)
{
    struct connections connections = {.len = 0};
    int64_t now_ms = 0;
    int fd = 0;

    for (size_t i = 0; i + 1 < steps.len; i += 2) {
        uint8_t step = (uint8_t)steps.data[i];
        uint8_t value = (uint8_t)steps.data[i + 1];
        int some = (fd - value + FDS) % FDS;

        now_ms += value;
        if (step < 160) {
            fd = (fd + 1) % FDS;
            add(&connections, fd, value, now_ms);
        } else if (step < 190) {
            connections_answer(&connections, some, step % 2 == 0, now_ms);
        } else if (step < 220) {
            connections_remove(&connections, some);
            require(!holds(&connections, some));
        } else {
            now_ms += (int64_t)value * 100;
            while (connections_take_overdue(&connections, now_ms) >= 0)
                continue;
            require(connections.len == 0 || connections_deadline(&connections) > now_ms);
        }
        if (i % 512 == 0)
            check_limits(&connections);
    }
    check_limits(&connections);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes host, hosts, path, rest = {(const char *)data, size};

    if (size > 1024)
        return 0;
    bytes_split(rest, '\n', &host, &rest);
    bytes_split(rest, '\n', &hosts, &rest);
    bytes_split(rest, '\n', &path, &rest);
    char *header = copy_of(host), *list = copy_of(hosts), *target = copy_of(path);
    check_host(bytes_of(header), list);
    check_host(host, list);
    check_path(target);
    check_query(list, header);
    check_query(target, "0");
    check_connections(rest);
    free(header);
    free(list);
    free(target);
    return 0;
}
