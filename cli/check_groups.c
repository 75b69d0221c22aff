#include "cli/check_groups.h"

#include "common/base/alloc.h"
#include "common/client/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMED_MAX     5   /* streams */
#define PAGES_MAX     100 /* of SCAN_COUNT keys, of each database */
#define SCAN_COUNT    "1000"
#define DATABASES_MAX 16

struct search {
    struct redis *redis;
    const struct settings *settings;
    const struct dsn_redis *dsn;
    int64_t database; /* that is looked through */
    size_t found;
    struct buf names;
};

static void check_stream(struct redis *redis, const struct dsn_redis *dsn,
                         struct check_server *server)
{
    redisReply *groups =
        REDIS_CALL(redis, NULL, BYTES("XINFO"), BYTES("GROUPS"), bytes_of(dsn->stream));
    struct buf others = {0};

    for (size_t i = 0; groups != NULL && i < groups->elements; i++) {
        struct bytes name = redis_member_text(groups->element[i], "name");

        if (!bytes_equal_text(name, dsn->group))
            buf_printf(&others, "%s%.*s", others.len > 0 ? ", " : "", BYTES_ARG(name));
    }
    redis_reply_free(groups);
    if (others.len > 0) {
        char *what = xasprintf("the stream %s has another consumer group beside %s: %s. What one "
                               "acknowledges is deleted for all",
                               dsn->stream, dsn->group, buf_text(&others));

        check_server_fail(server, what,
                          "give each group a stream of its own, remove the group with XGROUP "
                          "DESTROY, or set delete_after_ack=0&delete_after_reject=0 in every DSN "
                          "of the stream");
        free(what);
    }
    buf_free(&others);
}

static bool is_at(const struct dsn_redis *dsn, int64_t database, struct bytes stream)
{
    return dsn->dbindex == database && bytes_equal_text(stream, dsn->stream);
}

/* One that the settings name, on whatever server. */
static bool is_configured(const struct search *search, struct bytes stream)
{
    const struct settings *settings = search->settings;
    bool is = is_at(search->dsn, search->database, stream);

    for (size_t i = 0; i <= settings->transports_len && !is; i++) {
        struct dsn_redis dsn;
        bool failure = i == settings->transports_len;

        if (dsn_redis_parse(&dsn, failure ? settings->failure.dsn : settings->transports[i].dsn,
                            NULL) < 0)
            continue;
        is = is_at(&dsn, search->database, stream);
        dsn_redis_free(&dsn);
    }
    return is;
}

static void look_at_stream(struct search *search, struct bytes stream)
{
    struct bytes printable = bytes_is_utf8(stream) ? bytes_slice(stream, 0, 60) : BYTES("?");

    if (is_configured(search, stream))
        return;
    redisReply *groups = REDIS_CALL(search->redis, NULL, BYTES("XINFO"), BYTES("GROUPS"), stream);
    if (groups != NULL && groups->elements > 0) {
        search->found++;
        if (search->found <= NAMED_MAX) {
            buf_printf(&search->names, "%s%.*s (group %.*s", search->names.len > 0 ? ", " : "",
                       BYTES_ARG(printable),
                       BYTES_ARG(redis_member_text(groups->element[0], "name")));
            if (search->database != search->dsn->dbindex)
                buf_printf(&search->names, ", dbindex %lld", (long long)search->database);
            buf_append_char(&search->names, ')');
        }
    }
    redis_reply_free(groups);
}

static void look_through_database(struct search *search)
{
    char cursor[32] = "0";

    for (int page = 0; page < PAGES_MAX; page++) {
        redisReply *reply =
            REDIS_CALL(search->redis, NULL, BYTES("SCAN"), bytes_of(cursor), BYTES("COUNT"),
                       BYTES(SCAN_COUNT), BYTES("TYPE"), BYTES("stream"));

        if (reply == NULL || reply->elements != 2) {
            redis_reply_free(reply);
            return;
        }
        for (size_t i = 0; i < reply->element[1]->elements; i++)
            look_at_stream(search, redis_text(reply->element[1]->element[i]));
        snprintf(cursor, sizeof(cursor), "%s", reply->element[0]->str);
        redis_reply_free(reply);
        if (strcmp(cursor, "0") == 0)
            return;
    }
}

/* The databases that hold keys: lines "db3:keys=1,..." of INFO. */
static void look_through_others(struct search *search)
{
    redisReply *reply = REDIS_CALL(search->redis, NULL, BYTES("INFO"), BYTES("keyspace"));
    const char *at = reply != NULL && redis_is_string(reply) ? reply->str : "";

    for (int i = 0; i < DATABASES_MAX && (at = strstr(at, "\ndb")) != NULL; i++) {
        char number[16];

        at += strlen("\ndb");
        search->database = strtoll(at, NULL, 10);
        snprintf(number, sizeof(number), "%lld", (long long)search->database);
        if (search->database == search->dsn->dbindex)
            continue;
        redisReply *selected = REDIS_CALL(search->redis, NULL, BYTES("SELECT"), bytes_of(number));
        if (selected != NULL)
            look_through_database(search);
        redis_reply_free(selected);
    }
    redis_reply_free(reply);
}

static void check_other_streams(struct search *search, struct check_server *server)
{
    search->database = search->dsn->dbindex;
    look_through_database(search);
    look_through_others(search);
    if (search->found > NAMED_MAX)
        buf_printf(&search->names, " and %zu more", search->found - NAMED_MAX);
    if (search->found > 0) {
        char *text = xasprintf("other streams with a consumer group on this server: %s; if PHP "
                               "reads one of them, its options in messenger.yaml (stream, group, "
                               "dbindex) belong into the DSN here",
                               buf_text(&search->names));

        check_server_note(server, text);
        free(text);
    }
    buf_free(&search->names);
}

void check_groups(struct redis *redis, const struct settings *settings, const struct dsn_redis *dsn,
                  struct check_server *server)
{
    struct search search = {.redis = redis, .settings = settings, .dsn = dsn};

    if (dsn->delete_after_ack || dsn->delete_after_reject)
        check_stream(redis, dsn, server);
    check_other_streams(&search, server);
}
