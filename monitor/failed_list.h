/* The newest failed messages, for the page: read-only, and without their payloads.
 *
 * The list is read on request, in a thread of its own, at most once in FAILED_LIST_FRESH_MS. So no answer waits for the
 * database, and no client can keep the database busy. One thread calls these functions. */
#ifndef MONITOR_FAILED_LIST_H
#define MONITOR_FAILED_LIST_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

#define FAILED_LIST_FRESH_MS 2000
#define FAILED_LIST_KEPT_MS  10000 /* an old list is shown for so long while it is read anew */
#define FAILED_LIST_MOST     100

struct failed_list;

struct failed_list *failed_list_new(const struct settings_failure *settings);
void failed_list_free(struct failed_list *list); /* does not wait for the thread; NULL is allowed */

/* Appends {"messages":[{"id":"7","topic":"a/b","class":…,"error":…,"failedAt":…,"taken":false},…],"more":true,
 * "readAt":…}, or {"error":"…"}, as read last, and begins to read anew if that is old. False: nothing was read yet, and
 * {"messages":null} was appended: ask again soon. */
bool failed_list_write(struct failed_list *list, struct buf *out, int64_t now_ms);

#endif
