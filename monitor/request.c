#include "monitor/request.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/wire/dsn.h"
#include "common/wire/topic.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY_FOLDER "/usr/share/javascript/dygraphs"
#define LIBRARY_PATH   "/lib/"
#define INSTALLED      "share/mqtt-bridge/web"
#define HOST_LEN_MAX   253 /* RFC 1035, without the final dot */

static bool is_plain(struct bytes name, bool with_colons)
{
    return name.len > 0 && bytes_only_holds(name, with_colons ? ".-_:" : ".-_");
}

struct bytes request_host_name(struct bytes given)
{
    bool bracketed = bytes_starts_with(given, BYTES("["));
    struct bytes name, port;
    uint16_t number;

    if (!bytes_split_port(given, &name, &port))
        return BYTES_NONE;
    if (!bracketed && name.len > 1 && name.data[name.len - 1] == '.')
        name.len--;
    if ((port.len > 0 && !bytes_to_port(port, &number)) || name.len > HOST_LEN_MAX ||
        !is_plain(name, bracketed))
        return BYTES_NONE;
    return name;
}

static bool is_same_name(struct bytes one, struct bytes other)
{
    return one.len == other.len && strncasecmp(one.data, other.data, one.len) == 0;
}

bool request_host_is_allowed(struct bytes given, const char *hosts, const char *listen)
{
    struct bytes name = request_host_name(given);
    struct bytes rest = bytes_of(hosts);
    struct bytes item;
    unsigned char ip[BYTES_IP_SIZE];

    while (bytes_next_item(&rest, &item))
        if (bytes_equal_text(item, "*") || (name.len > 0 && is_same_name(item, name)))
            return true;
    return name.len > 0 && (bytes_to_ip(name, ip) > 0 || is_same_name(name, BYTES("localhost")) ||
                            is_same_name(name, request_host_name(bytes_of(listen))));
}

struct request_files {
    char *folder; /* NULL: no folder found */
    int web;      /* descriptors of the folders; -1: no folder */
    int library;
};

bool request_file_name_is_safe(const char *name)
{
    return name[0] != '.' && is_plain(bytes_of(name), false);
}

const char *request_content_type(const char *name)
{
    static const struct {
        const char *ending;
        const char *type;
    } TYPES[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".json", "application/json"},
        {".map", "application/json"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
    };
    const char *ending = strrchr(name, '.');

    for (size_t i = 0; ending != NULL && i < LENGTH_OF(TYPES); i++)
        if (strcmp(ending, TYPES[i].ending) == 0)
            return TYPES[i].type;
    return "application/octet-stream";
}

static int open_folder(const char *folder)
{
    return open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Uses the folder if the page is in it. The function owns the text `folder`. */
static bool try_folder(struct request_files *files, char *folder)
{
    int web = open_folder(folder);

    if (web >= 0 && faccessat(web, "index.html", R_OK, 0) == 0) {
        files->web = web;
        files->folder = folder;
        return true;
    }
    file_close(&web);
    free(folder);
    return false;
}

static void find_beside_program(struct request_files *files)
{
    char *path = file_own_folder();

    /* Of bin/program share is one folder up. Of build/program web is one folder up, and two for
     * a sanitizer's build. */
    for (int up = 1; up < 3 && path != NULL; up++) {
        char *slash = strrchr(path, '/');

        if (slash == NULL)
            break;
        *slash = '\0';
        if (try_folder(files, xasprintf("%s/" INSTALLED, path)) ||
            try_folder(files, xasprintf("%s/web", path)))
            break;
    }
    free(path);
}

struct request_files *request_files_new(void)
{
    struct request_files *files = xcalloc(1, sizeof *files);
    const char *chosen = getenv("MQTT_BRIDGE_WEB");

    files->web = -1;
    files->library = open_folder(LIBRARY_FOLDER);
    if (chosen != NULL && chosen[0] != '\0')
        try_folder(files, xstrdup(chosen));
    else
        find_beside_program(files);
    return files;
}

void request_files_free(struct request_files *files)
{
    if (files == NULL)
        return;
    file_close(&files->web);
    file_close(&files->library);
    free(files->folder);
    free(files);
}

const char *request_files_folder(const struct request_files *files)
{
    return files->folder;
}

bool request_find_file(const struct request_files *files, const char *path,
                       struct request_file *file)
{
    bool library = strncmp(path, LIBRARY_PATH, strlen(LIBRARY_PATH)) == 0;
    const char *name = library ? path + strlen(LIBRARY_PATH) : path + 1;
    struct stat info;

    if (path[0] != '/')
        return false;
    if (strcmp(path, "/") == 0)
        name = "index.html";
    int folder = library ? files->library : files->web;
    if (folder < 0 || !request_file_name_is_safe(name))
        return false;
    /* The library's files may be links: packages link them, and only root can. */
    int fd = openat(folder, name,
                    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (library ? 0 : O_NOFOLLOW));
    if (fd < 0)
        return false;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return false;
    }
    *file = (struct request_file){.fd = fd,
                                  .size = (uint64_t)info.st_size,
                                  .content_type = request_content_type(name),
                                  .library = library};
    return true;
}

/* Accepts the filters that a broker accepts, except those of shared subscriptions. */
static int check_filter(const char *filter, struct error *err)
{
    if (bytes_starts_with(bytes_of(filter), BYTES("$share/")))
        return error_set(err, ERR_USAGE, "a filter without $share/ is needed");
    return topic_filter_check(bytes_of(filter), err);
}

int request_query_read(struct request_query *query, const char *filter, const char *cursor,
                       struct error *err)
{
    struct error why;

    *query = (struct request_query){0};
    if (cursor != NULL && !bytes_to_u64(bytes_of(cursor), &query->cursor))
        return error_set(err, ERR_USAGE, "cursor: not that of an answer");
    if (filter == NULL)
        return 0;
    char *decoded = dsn_decode(bytes_of(filter), false);
    if (decoded == NULL)
        return error_set(err, ERR_USAGE, "filter: holds a NUL");
    if (check_filter(decoded, &why) < 0) {
        free(decoded);
        return error_set(err, ERR_USAGE, "filter: %s", why.text);
    }
    query->filter = decoded;
    return 0;
}
