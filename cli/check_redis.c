#include "cli/check_redis.h"

#include "common/base/alloc.h"
#include "common/base/sys.h"
#include "common/client/queue.h"
#include "common/client/redis.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX     12
#define NAMED_MAX     5   /* most commands or streams that a message names */
#define PAGES_MAX     100 /* most pages of SCAN_COUNT keys for each database */
#define SCAN_COUNT    "1000"
#define DATABASES_MAX 16

enum which_key { STREAM, DELAYED, OWN, KEYS };

enum wanted_by {
    QUEUE = 1,  /* consumer, workers and monitor on a transport's stream */
    LATEST = 2, /* the hash with last values */
    FAILED = 4, /* workers and `mqtt-bridge failed` on the failure transport's stream */
    BOTH = QUEUE | FAILED,
};

enum outcome {
    PASSES,
    FAILS, /* the expected error shows that the command is allowed; success does too */
};

/* Each attempt tests whether the server allows a command, without an effect on the queue. KEY
 * stands for the key, and RANDOM for a name that does not exist. */
static const struct attempt {
    enum which_key key;
    int wanted_by; /* flags of enum wanted_by */
    enum outcome outcome;
    const char *rule;
    const char *words;
} ATTEMPTS[] = {
    {STREAM, BOTH, PASSES, "+xlen", "XLEN KEY"},
    {STREAM, BOTH, FAILS, "+xadd", "XADD KEY 0-0 message RANDOM"}, /* no valid id */
    {STREAM, BOTH, PASSES, "+xdel", "XDEL KEY 0-0"},
    {STREAM, BOTH, PASSES, "+xack", "XACK KEY RANDOM 0-0"},
    {STREAM, BOTH, PASSES, "+xrange", "XRANGE KEY 0-0 0-0"},
    {STREAM, FAILED, PASSES, "+xrevrange", "XREVRANGE KEY 0-0 0-0"},
    {STREAM, BOTH, FAILS, "+xpending", "XPENDING KEY RANDOM - + 1"},
    {STREAM, QUEUE, FAILS, "+xclaim", "XCLAIM KEY RANDOM RANDOM 0 0-0 JUSTID"},
    {STREAM, QUEUE, FAILS, "+xreadgroup", "XREADGROUP GROUP RANDOM RANDOM COUNT 1 STREAMS KEY >"},
    {STREAM, QUEUE, FAILS, "+xgroup|delconsumer", "XGROUP DELCONSUMER KEY RANDOM RANDOM"},
    {STREAM, BOTH, FAILS, "+xinfo|groups", "XINFO GROUPS KEY"},
    {OWN, QUEUE, FAILS, "+xgroup|create", "XGROUP CREATE KEY RANDOM 0"}, /* the key is no stream */
    {DELAYED, BOTH, PASSES, "+zcard", "ZCARD KEY"},
    {DELAYED, QUEUE, PASSES, "+zadd", "ZADD KEY XX 1 RANDOM"},
    {DELAYED, QUEUE, PASSES, "+zrem", "ZREM KEY RANDOM"},
    {DELAYED, QUEUE, PASSES, "+zscore", "ZSCORE KEY RANDOM"},
    {DELAYED, QUEUE, PASSES, "+zrange", "ZRANGE KEY 1 0 WITHSCORES"},
    {DELAYED, QUEUE, PASSES, "+zrangebyscore", "ZRANGEBYSCORE KEY 0 (0 LIMIT 0 1"},
    {OWN, BOTH, FAILS, "+evalsha", "EVALSHA 0000000000000000000000000000000000000000 1 KEY"},
    {KEYS, BOTH, FAILS, "+script|load", "SCRIPT LOAD )"}, /* not a valid script */
    {OWN, BOTH, PASSES, "+get", "GET KEY"},
    {OWN, BOTH, PASSES, "+set", "SET KEY RANDOM XX"},
    {OWN, BOTH, PASSES, "+exists", "EXISTS KEY"},
    {OWN, QUEUE, PASSES, "+del", "DEL KEY"},
    {OWN, QUEUE, PASSES, "+srem", "SREM KEY RANDOM"},
    {OWN, QUEUE, PASSES, "+pexpire", "PEXPIRE KEY 1000"},
    {OWN, LATEST, PASSES, "+hget", "HGET KEY RANDOM"},
    {OWN, LATEST, FAILS, "+hset", "HSET KEY RANDOM RANDOM RANDOM"}, /* lacks a value */
    {OWN, LATEST, PASSES, "+hlen", "HLEN KEY"},
    {OWN, LATEST, PASSES, "+hdel", "HDEL KEY RANDOM"},
    {OWN, LATEST, PASSES, "+hrandfield", "HRANDFIELD KEY 1"},
    {OWN, LATEST, PASSES, "+hscan", "HSCAN KEY 0"},
    /* SADD creates the key, and SREM, DEL or PEXPIRE removes the key again. */
    {OWN, QUEUE, PASSES, "+sadd", "SADD KEY RANDOM"},
    {OWN, QUEUE, PASSES, "+pexpire", "PEXPIRE KEY 1000"},
    {OWN, QUEUE, PASSES, "+smembers", "SMEMBERS KEY"},
    {OWN, QUEUE, PASSES, "+srem", "SREM KEY RANDOM"},
    {OWN, QUEUE, PASSES, "+del", "DEL KEY"},
};
#define ATTEMPTS_LEN LENGTH_OF(ATTEMPTS)

struct trial {
    const struct dsn_redis *dsn;
    const char *setting; /* such as "[transport:async] dsn" */
    const char *variable;
    int wants; /* flags of enum wanted_by */
    struct check_server *server;
    struct redis *redis;
    char *key[KEYS];
    char *pattern[KEYS]; /* patterns for access rules */
    char *nobody;        /* replaces RANDOM */

    bool forbidden[ATTEMPTS_LEN];
    bool key_forbidden[KEYS];
    bool key_used[KEYS]; /* an allowed command has used the key */
    bool wrong_type[KEYS];
};

static const char *user_of(const struct trial *trial)
{
    const char *user = trial->dsn->user;

    return user && user[0] ? user : "default";
}

static void fail(struct trial *trial, struct bytes no)
{
    char *what = xasprintf("%.*s", BYTES_ARG(no));
    char *mend = xasprintf("see %s%s: user, password, stream", trial->setting, trial->variable);

    check_server_fail(trial->server, what, mend);
    free(what);
    free(mend);
}

/* Returns the answer, or NULL with the server's error text in *no. */
static redisReply *call(struct trial *trial, const struct bytes *words, size_t count,
                        struct bytes *no, struct error *err)
{
    redisReply *reply = redis_call(trial->redis, words, count, err);

    if (!reply)
        *no = bytes_of(check_server_text(trial->server, err));
    return reply;
}

static bool has(struct bytes text, const char *part)
{
    return memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* Reports that there is no connection, or that AUTH or SELECT was refused. */
static void report_closed(struct trial *trial, struct bytes no)
{
    fail(trial, no);
    if (bytes_starts_with(no, BYTES("NOPERM")) && has(no, "'select'")) {
        char *mend = xasprintf("allow it: ACL SETUSER %s +select", user_of(trial));

        check_server_note(trial->server, mend);
        free(mend);
    }
}

static void report_wrong_type(struct trial *trial, enum which_key key)
{
    const struct bytes words[] = {BYTES("TYPE"), bytes_of(trial->key[key])};
    struct bytes no;
    struct error err = {0};

    if (trial->wrong_type[key])
        return;
    trial->wrong_type[key] = true;
    redisReply *reply = call(trial, words, 2, &no, &err);
    char *what =
        xasprintf("the key %s is %s%s, not a %s", trial->key[key], reply ? "a " : "something else",
                  reply ? reply->str : "", key == STREAM ? "stream" : "sorted set");
    redis_reply_free(reply);
    char *mend = xasprintf("name another stream in %s", trial->setting);
    check_server_fail(trial->server, what, mend);
    free(what);
    free(mend);
}

/* Judges the error of attempt i. Returns false if further commands would fail too. */
static bool judge(struct trial *trial, size_t i, struct bytes no)
{
    enum which_key key = ATTEMPTS[i].key;

    if (!redis_is_open(trial->redis)) {
        report_closed(trial, no);
        return false;
    }
    if (bytes_starts_with(no, BYTES("NOPERM"))) {
        /* Redis 6 says "...access one of the keys used as arguments", Redis 7 "...access a key". */
        bool of_key = key != KEYS && has(no, "access") && has(no, "key") && !has(no, "command");
        trial->forbidden[i] = !of_key;
        if (of_key)
            trial->key_forbidden[key] = true;
        return true;
    }
    if (key != KEYS)
        trial->key_used[key] = true;
    if (bytes_starts_with(no, BYTES("WRONGTYPE"))) {
        report_wrong_type(trial, key);
        return true;
    }
    bool expected = bytes_starts_with(no, BYTES("ERR ")) ||
                    bytes_starts_with(no, BYTES("NOGROUP")) ||
                    bytes_starts_with(no, BYTES("NOSCRIPT"));
    if (expected && ATTEMPTS[i].outcome == FAILS && !has(no, "unknown command"))
        return true;
    char *text = xasprintf("%.*s: %.*s", (int)strcspn(ATTEMPTS[i].words, " "), ATTEMPTS[i].words,
                           BYTES_ARG(no));
    fail(trial, bytes_of(text));
    free(text);
    return false;
}

static bool try_one(struct trial *trial, size_t i)
{
    const struct attempt *attempt = &ATTEMPTS[i];
    struct bytes words[WORDS_MAX];
    struct bytes rest = bytes_of(attempt->words);
    struct bytes no;
    struct error err = {0};
    size_t count = 0;

    while (rest.len > 0 && count < WORDS_MAX) {
        struct bytes *word = &words[count++];

        bytes_split(rest, ' ', word, &rest);
        if (bytes_equal_text(*word, "KEY"))
            *word = bytes_of(trial->key[attempt->key]);
        else if (bytes_equal_text(*word, "RANDOM"))
            *word = bytes_of(trial->nobody);
    }
    redisReply *reply = call(trial, words, count, &no, &err);
    if (!reply)
        return judge(trial, i, no);
    redis_reply_free(reply);
    if (attempt->key != KEYS)
        trial->key_used[attempt->key] = true;
    return true;
}

static bool is_forbidden(const struct trial *trial, const char *rule)
{
    for (size_t i = 0; i < ATTEMPTS_LEN; i++)
        if (trial->forbidden[i] && strcmp(ATTEMPTS[i].rule, rule) == 0)
            return true;
    return false;
}

/* True for SADD if no command that could remove the key again is allowed. */
static bool may_leave_a_key(const struct trial *trial, size_t i)
{
    return strcmp(ATTEMPTS[i].rule, "+sadd") == 0 && is_forbidden(trial, "+del") &&
           is_forbidden(trial, "+srem") && is_forbidden(trial, "+pexpire");
}

static bool try_all(struct trial *trial)
{
    for (size_t i = 0; i < ATTEMPTS_LEN; i++) {
        if ((ATTEMPTS[i].wanted_by & trial->wants) == 0)
            continue;
        if (may_leave_a_key(trial, i))
            trial->forbidden[i] = true; /* not tried, so taken for forbidden */
        else if (!try_one(trial, i))
            return false;
    }
    return true;
}

static void list_item(struct buf *out, const char *first, const char *text)
{
    buf_append_text(out, out->len > 0 ? ", " : first);
    buf_append_text(out, text);
}

/* Appends the rule's command: "XGROUP CREATE" for "+xgroup|create". */
static void name_command(struct buf *out, const char *rule)
{
    struct buf name = {0};

    for (const char *at = rule + 1; *at; at++)
        buf_append_char(&name, *at == '|' ? ' ' : (char)toupper((unsigned char)*at));
    list_item(out, "may not run ", buf_text(&name));
    buf_free(&name);
}

/* True for the first attempt of a rule: some rules are tried twice. */
static bool is_first(const struct trial *trial, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (trial->forbidden[j] && strcmp(ATTEMPTS[j].rule, ATTEMPTS[i].rule) == 0)
            return false;
    return true;
}

static size_t add_forbidden_commands(const struct trial *trial, struct buf *commands,
                                     struct buf *rules)
{
    size_t count = 0;

    for (size_t i = 0; i < ATTEMPTS_LEN; i++) {
        if (!trial->forbidden[i] || !is_first(trial, i))
            continue;
        if (count < NAMED_MAX)
            name_command(commands, ATTEMPTS[i].rule);
        buf_printf(rules, " %s", ATTEMPTS[i].rule);
        count++;
    }
    if (count > NAMED_MAX)
        buf_printf(commands, " and %zu more", count - NAMED_MAX);
    return count;
}

/* Reports the forbidden commands and keys, and the missing rules. A key that no allowed command
 * has used may be forbidden too. */
static void report_forbidden(struct trial *trial)
{
    const char *user = user_of(trial);
    struct buf commands = {0};
    struct buf keys = {0};
    struct buf rules = {0};
    bool any = add_forbidden_commands(trial, &commands, &rules) > 0;

    for (size_t i = 0; i < KEYS; i++) {
        if (trial->key_forbidden[i]) {
            list_item(&keys, "may not use the key ", trial->pattern[i]);
            any = true;
        }
        if (trial->key_forbidden[i] || !trial->key_used[i])
            buf_printf(&rules, " ~%s", trial->pattern[i]);
    }
    if (any) {
        char *what = xasprintf("NOPERM: the user %s %s%s%s", user, buf_text(&commands),
                               commands.len > 0 && keys.len > 0 ? " and " : "", buf_text(&keys));
        char *mend = xasprintf("allow it: ACL SETUSER %s%s", user, buf_text(&rules));

        check_server_fail(trial->server, what, mend);
        free(what);
        free(mend);
    }
    buf_free(&commands);
    buf_free(&keys);
    buf_free(&rules);
}

/* Reads a setting of the server from CONFIG GET, or else from INFO. An empty value means that
 * the server does not tell. */
static void read_setting(struct trial *trial, const char *name, const char *line, struct buf *value)
{
    const struct bytes config[] = {BYTES("CONFIG"), BYTES("GET"), bytes_of(name)};
    const struct bytes info[] = {BYTES("INFO")};
    struct bytes no;
    struct error err = {0};
    redisReply *reply = call(trial, config, 3, &no, &err);

    buf_clear(value);
    if (reply && reply->elements >= 2 && reply->element[1]->str)
        buf_append(value, redis_text(reply->element[1]));
    redis_reply_free(reply);
    if (value->len > 0)
        return;
    reply = call(trial, info, 1, &no, &err);
    const char *at = reply && reply->str ? strstr(reply->str, line) : NULL;
    if (at)
        buf_append(value, (struct bytes){at + strlen(line), strcspn(at + strlen(line), "\r\n")});
    redis_reply_free(reply);
}

/* Reads the server's settings on which the delivery guarantee depends. */
static void read_settings(struct trial *trial)
{
    struct buf policy = {0}, appendonly = {0};

    read_setting(trial, "maxmemory-policy", "maxmemory_policy:", &policy);
    if (policy.len > 0 && !bytes_equal_text(buf_bytes(&policy), "noeviction")) {
        check_server_note(trial->server,
                          "maxmemory-policy is not noeviction: Redis may drop the queue");
    }
    read_setting(trial, "appendonly", "aof_enabled:", &appendonly);
    if (bytes_equal_text(buf_bytes(&appendonly), "no") ||
        bytes_equal_text(buf_bytes(&appendonly), "0")) {
        check_server_note(trial->server,
                          "appendonly is off: what Redis holds is lost when it ends");
    }
    if (policy.len == 0 || appendonly.len == 0) {
        check_server_note(trial->server,
                          "Redis does not tell its settings (CONFIG GET and INFO are refused): "
                          "maxmemory-policy should be noeviction, and appendonly yes");
    }
    buf_free(&policy);
    buf_free(&appendonly);
}

/* Looks for consumer groups. Another group on the DSN's stream loses the entries that the bridge
 * acknowledges. A group on another stream may mean that the DSN lacks an option of
 * messenger.yaml (stream, group, dbindex). Groups that the server does not show are ignored. */

struct search {
    struct redis *redis;
    const struct settings *settings;
    const struct dsn_redis *dsn;
    int64_t database; /* the database that is searched */
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

/* True if any DSN of the settings names this stream and database, on any server. */
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

/* Searches the other databases with keys, by the lines "db3:keys=1,..." of INFO. */
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

/* Must be the last check on the connection, since another database may be selected afterwards. */
static void check_groups(struct redis *redis, const struct settings *settings,
                         const struct dsn_redis *dsn, struct check_server *server)
{
    struct search search = {.redis = redis, .settings = settings, .dsn = dsn};

    if (dsn->delete_after_ack || dsn->delete_after_reject)
        check_stream(redis, dsn, server);
    check_other_streams(&search, server);
}

static void name_keys(struct trial *trial)
{
    const char *stream = trial->dsn->stream;
    char *prefix = queue_prefix(stream);

    trial->nobody = xasprintf("check:%016" PRIx64, sys_random_u64());
    trial->key[STREAM] = xstrdup(stream);
    trial->key[DELAYED] = xasprintf("%s__queue", stream);
    trial->key[OWN] = xasprintf("%s%s", prefix, trial->nobody);
    trial->pattern[STREAM] = xstrdup(trial->key[STREAM]);
    trial->pattern[DELAYED] = xstrdup(trial->key[DELAYED]);
    trial->pattern[OWN] = xasprintf("%s*", prefix);
    free(prefix);
}

/* Tries all commands. Returns true if all are allowed and the server's settings were read. */
static bool try_dsn(struct trial *trial)
{
    struct error err = {0};
    bool whole = false;

    name_keys(trial);
    trial->redis = redis_new(trial->server->address, CHECK_TIMEOUT_MS, NULL, NULL);
    if (redis_open_dsn(trial->redis, trial->dsn, &err) < 0) {
        check_server_fail(trial->server, check_server_text(trial->server, &err), "");
    } else {
        whole = try_all(trial);
        report_forbidden(trial);
        whole = whole && trial->server->ok;
        if (whole)
            read_settings(trial);
    }
    return whole;
}

static void free_trial(struct trial *trial)
{
    redis_free(trial->redis);
    free(trial->nobody);
    for (size_t i = 0; i < KEYS; i++) {
        free(trial->key[i]);
        free(trial->pattern[i]);
    }
}

void check_redis(const struct settings *settings, const struct settings_transport *transport,
                 const struct dsn_redis *dsn, struct check_server *server)
{
    bool is_default = transport == settings_default_transport(settings);
    bool keeps_latest = is_default && settings->page.last_values > 0;
    char *setting = xasprintf("[transport:%s] dsn", transport->name);
    struct trial trial = {.dsn = dsn,
                          .setting = setting,
                          .variable = is_default ? " (MESSENGER_TRANSPORT_DSN)" : "",
                          .wants = keeps_latest ? QUEUE | LATEST : QUEUE,
                          .server = server};

    if (try_dsn(&trial))
        check_groups(trial.redis, settings, dsn, server);
    free_trial(&trial);
    free(setting);
}

void check_redis_failed(const struct dsn_redis *dsn, struct check_server *server)
{
    struct trial trial = {.dsn = dsn,
                          .setting = "[failure] dsn",
                          .variable = " (MESSENGER_FAILURE_TRANSPORT_DSN)",
                          .wants = FAILED,
                          .server = server};

    (void)try_dsn(&trial);
    free_trial(&trial);
}
