/* What connection strings have in common: scheme, user, hosts, path, query. Used by dsn and its parts
 * alone. Pure.
 *
 *     scheme:[//][user[:password]@]host[:port][,host[:port]...][/path][?name=value&...]
 *
 * The user ends at the last `@` before the `?`, so that a password may hold a `/` or an `@` as it is. */
#ifndef COMMON_WIRE_DSN_PARTS_H
#define COMMON_WIRE_DSN_PARTS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/wire/dsn.h"

struct dsn_parts {
    struct bytes scheme;
    struct bytes middle; /* between scheme and query, without the slashes in front */
    struct bytes query;
};

/* -ERR_FORMAT if text does not begin with "scheme:" (as no DSN that is a bare host does). */
MUST_CHECK int dsn_parts_split(struct dsn_parts *parts, const char *text, struct error *err);

/* One member of `middle`: userinfo's data is NULL if there is none, path has its slash or is empty. */
struct dsn_member {
    struct bytes userinfo;
    struct bytes address;
    struct bytes path;
};

/* -ERR_USAGE for a `://` in it: where the user ends, and whether it is another address, can't be told. */
MUST_CHECK int dsn_userinfo_check(struct bytes userinfo, struct error *err);

void dsn_member_split(struct dsn_member *member, struct bytes text);

/* "host", "host:port", "[::1]:port" into host; port 0 stands for none. -ERR_USAGE without showing what
 * was written: a password may have got there. */
MUST_CHECK int dsn_host_parse(struct dsn_host *host, struct bytes address, struct error *err);

/* %XX decoded, and `+` as a space in a query: a new string, or NULL if it holds a NUL byte. */
char *dsn_decode(struct bytes text, bool query);

/* The next name=value of a query; false at its end. Both decoded and the caller's to free; either may
 * be NULL as above. */
bool dsn_query_next(struct bytes *query, char **name, char **value);

/* ssl[verify_peer]: *key is what is in the brackets (in place) and the name is cut before them; NULL if
 * there are none. */
void dsn_option_split(char *name, char **key);

/* Could somebody have meant this as an option's name? If not it may be a part of a password, and is
 * not shown to anybody. */
bool dsn_is_option_name(const char *name);

#endif
