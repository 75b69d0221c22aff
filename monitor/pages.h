/* The page's files on disk: web/, and under /lib/ the chart library where its package puts it.
 *
 * A name is served only if it is made of letters, digits, '.', '_' and '-' and does not begin with a dot, and
 * links in web/ are not followed: nothing leads out of the folder. */
#ifndef MONITOR_PAGES_H
#define MONITOR_PAGES_H

#include <stdbool.h>
#include <stdint.h>

struct pages;

struct page {
    int fd; /* the caller closes it */
    uint64_t size;
    const char *content_type;
    bool library; /* from a package: a browser may keep it */
};

/* web/ is $MQTT_BRIDGE_WEB; else share/mqtt-bridge/web or web in a folder above the program's own
 * (installed anywhere, or run from where it was built). */
struct pages *pages_new(void);
void pages_free(struct pages *pages);
/* The folder in use, for the log; NULL if there is none. */
const char *pages_folder(const struct pages *pages);

/* path: "/", "/app.js", "/lib/dygraph.min.js", as it was sent. False if there is no such page. */
bool pages_find(const struct pages *pages, const char *path, struct page *page);

/* Pure parts. */
bool pages_name_is_safe(const char *name);
const char *pages_content_type(const char *name);

#endif
