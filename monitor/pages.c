#include "monitor/pages.h"

#include "common/base/alloc.h"
#include "common/base/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY_FOLDER "/usr/share/javascript/dygraphs"
#define LIBRARY_PATH   "/lib/"
#define INSTALLED      "share/mqtt-bridge/web"

struct pages {
    char *folder; /* NULL: none found */
    int web;      /* descriptors of the folders, -1 if there is none */
    int library;
};

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool pages_name_is_safe(const char *name)
{
    if (name[0] == '.')
        return false;
    for (const char *at = name; *at != '\0'; at++)
        if (!is_letter_or_digit(*at) && *at != '_' && *at != '-' && *at != '.')
            return false;
    return name[0] != '\0';
}

const char *pages_content_type(const char *name)
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

    for (size_t i = 0; ending != NULL && i < sizeof TYPES / sizeof TYPES[0]; i++)
        if (strcmp(ending, TYPES[i].ending) == 0)
            return TYPES[i].type;
    return "application/octet-stream";
}

static int open_folder(const char *folder)
{
    return open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Takes the folder if the page is in it. */
static bool try_folder(struct pages *pages, char *folder)
{
    int web = open_folder(folder);

    if (web >= 0 && faccessat(web, "index.html", R_OK, 0) == 0) {
        pages->web = web;
        pages->folder = folder;
        return true;
    }
    if (web >= 0)
        close(web);
    free(folder);
    return false;
}

static void find_beside_program(struct pages *pages)
{
    char *path = file_own_folder();

    /* bin/program: share is one up. build/program: web is one up; two for a sanitizer's build. */
    for (int up = 1; up < 3 && path != NULL; up++) {
        char *slash = strrchr(path, '/');

        if (slash == NULL)
            break;
        *slash = '\0';
        if (try_folder(pages, xasprintf("%s/" INSTALLED, path)) ||
            try_folder(pages, xasprintf("%s/web", path)))
            break;
    }
    free(path);
}

struct pages *pages_new(void)
{
    struct pages *pages = xcalloc(1, sizeof *pages);
    const char *chosen = getenv("MQTT_BRIDGE_WEB");

    pages->web = -1;
    pages->library = open_folder(LIBRARY_FOLDER);
    if (chosen != NULL && chosen[0] != '\0')
        try_folder(pages, xstrdup(chosen));
    else
        find_beside_program(pages);
    return pages;
}

void pages_free(struct pages *pages)
{
    if (pages == NULL)
        return;
    if (pages->web >= 0)
        close(pages->web);
    if (pages->library >= 0)
        close(pages->library);
    free(pages->folder);
    free(pages);
}

const char *pages_folder(const struct pages *pages)
{
    return pages->folder;
}

bool pages_find(const struct pages *pages, const char *path, struct page *page)
{
    bool library = strncmp(path, LIBRARY_PATH, strlen(LIBRARY_PATH)) == 0;
    const char *name = library ? path + strlen(LIBRARY_PATH) : path + 1;
    struct stat info;

    if (path[0] != '/')
        return false;
    if (strcmp(path, "/") == 0)
        name = "index.html";
    int folder = library ? pages->library : pages->web;
    if (folder < 0 || !pages_name_is_safe(name))
        return false;
    /* Packages may link the library's files, and only root does so. */
    int fd = openat(folder, name,
                    O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (library ? 0 : O_NOFOLLOW));
    if (fd < 0)
        return false;
    if (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return false;
    }
    *page = (struct page){.fd = fd,
                          .size = (uint64_t)info.st_size,
                          .content_type = pages_content_type(name),
                          .library = library};
    return true;
}
