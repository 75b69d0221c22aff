#include "consumer/dispatch/previous_destination.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEND                                                                                       \
    "; if it is gone for good: [spool] former = redirect (what it already has may come twice)"

/* "user:password@", or nothing. A password may hold an `@`, but neither `/` nor `?` (they are %XX). */
static struct bytes userinfo_of(const char *dsn)
{
    const char *from = strstr(dsn, "://");

    if (from == NULL)
        return BYTES_NONE;
    from += 3;
    const char *at = memrchr(from, '@', strcspn(from, "/?"));
    return at != NULL ? (struct bytes){from, (size_t)(at + 1 - from)} : BYTES_NONE;
}

/* Options that say where, not how. */
static bool is_about_the_place(struct bytes option)
{
    return bytes_starts_with(option, BYTES("stream=")) ||
           bytes_starts_with(option, BYTES("dbindex=")) ||
           bytes_starts_with(option, BYTES("host[")) || bytes_starts_with(option, BYTES("host%5B"));
}

static void append_options(struct buf *out, const char *dsn)
{
    const char *query = strchr(dsn, '?');
    struct bytes rest = bytes_of(query != NULL ? query + 1 : ""), option;
    char before = strchr(buf_text(out), '?') != NULL ? '&' : '?';

    while (rest.len > 0) {
        bytes_split(rest, '&', &option, &rest);
        if (option.len == 0 || is_about_the_place(option))
            continue;
        buf_append_char(out, before);
        buf_append(out, option);
        before = '&';
    }
}

char *previous_destination_dsn(const char *current, const char *place)
{
    struct buf out = {0};
    const char *address = strstr(place, "://");
    size_t scheme_len = address != NULL ? (size_t)(address + 3 - place) : 0;

    buf_append(&out, (struct bytes){place, scheme_len});
    buf_append(&out, userinfo_of(current));
    buf_append_text(&out, place + scheme_len);
    append_options(&out, current);
    char *text = xstrdup(buf_text(&out));
    buf_free(&out);
    return text;
}

int previous_destination_queue_new(struct queue **queue, const struct settings_transport *transport,
                                   const char *place, struct error *err)
{
    struct settings_transport former = *transport;

    former.dsn = previous_destination_dsn(transport->dsn, place);
    log_notice(LOG_PLAIN, "The spool has messages for %s: sending them there first", place);
    int result = queue_new(queue, &former, err);
    free(former.dsn);
    return result;
}

void previous_destination_reason(char *text, size_t size, const char *place,
                                 const struct error *err)
{
    size_t room = size > sizeof(MEND) ? size - sizeof(MEND) : 0;
    bool named = strstr(err->text, place) != NULL;
    int len = snprintf(text, room + 1, "the former %s%s%s", named ? "" : place, named ? "" : ": ",
                       err->text);

    if (len > 0)
        snprintf(text + strlen(text), size - strlen(text), MEND);
}

void previous_destination_redirect(struct spool *spool, const char *place)
{
    struct spool_state state;

    spool_state(spool, &state);
    spool_redirect(spool);
    if (state.unsent_records > 0)
        log_warning(LOG_WITH(log_number("messages", (int64_t)state.unsent_records)),
                    "[spool] former = redirect: %" PRIu64 " messages that were stored for %s go to "
                    "%s. What the former one already has may come twice, with the same X-Mqtt-Id",
                    state.unsent_records, spool_destination(spool), place);
}
