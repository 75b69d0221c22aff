/* Checks the parts of a request that are used: the header Host, the path of a file, and the query of GET /latest.
 *
 * A web site may give one of its own names this machine's address; a browser then lets the site read our answers (DNS
 * rebinding). That works only with names that the site owns. So `localhost` and IP addresses are safe, and every other
 * name must be one of [http] hosts.
 *
 * The page's files are those of web/; /lib/ has the chart library from its package's folder. A file is served only if
 * its name has letters, digits, '.', '_' and '-' only, and does not begin with a dot. Links in web/ are not followed,
 * so nothing outside of the folder is served. */
#ifndef MONITOR_REQUEST_H
#define MONITOR_REQUEST_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* given: the header Host, "name", "name:port" or "[::1]:port". hosts and listen: of [http]; the host of listen is
 * allowed too. */
bool request_host_is_allowed(struct bytes given, const char *hosts, const char *listen);

/* The header without port, brackets and a dot at its end; BYTES_NONE if it is no name or address. The result has
 * letters, digits, '.', '-', '_' and ':' only. */
struct bytes request_host_name(struct bytes given);

struct request_files;

struct request_file {
    int fd; /* the caller closes it */
    uint64_t size;
    const char *content_type;
    bool library; /* from a package: a browser may keep it */
};

/* web/ is $MQTT_BRIDGE_WEB; else share/mqtt-bridge/web or web in a folder above the program's own
 * (installed anywhere, or run from where it was built). */
struct request_files *request_files_new(void);
void request_files_free(struct request_files *files);
/* The folder in use, for the log; NULL if there is none. */
const char *request_files_folder(const struct request_files *files);

/* path: "/", "/app.js", "/lib/dygraph.min.js", as it was sent. False if there is no such file. */
bool request_find_file(const struct request_files *files, const char *path,
                       struct request_file *file);

/* Pure parts. */
bool request_file_name_is_safe(const char *name);
const char *request_content_type(const char *name);

struct request_query {
    char *filter; /* an MQTT filter, the caller's to free; NULL: all topics */
    uint64_t cursor;
};

/* Reads the query's values as they were sent: the filter percent-encoded, with `+` for itself; NULL: not given.
 * -ERR_USAGE: err says which value is invalid, and nothing is to be freed. */
MUST_CHECK int request_query_read(struct request_query *query, const char *filter,
                                  const char *cursor, struct error *err);

#endif
