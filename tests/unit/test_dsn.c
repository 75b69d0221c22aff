#include "common/wire/dsn.h"

#include "common/base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct dsn_redis parse(const char *text)
{
    struct dsn_redis dsn;
    struct error err = {0};

    if (dsn_redis_parse(&dsn, text, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return dsn;
}

static void expect_host(const struct dsn_redis *dsn, size_t at, const char *host, int port)
{
    assert_true(at < dsn->hosts_len);
    assert_string_equal(dsn->hosts[at].host, host);
    assert_int_equal(dsn->hosts[at].port, port);
}

static void test_a_bare_host_has_symfonys_defaults(void **state)
{
    struct dsn_redis dsn = parse("redis://localhost");

    (void)state;
    assert_int_equal(dsn.hosts_len, 1);
    expect_host(&dsn, 0, "localhost", 6379);
    assert_null(dsn.path);
    assert_false(dsn.tls);
    assert_null(dsn.user);
    assert_null(dsn.password);
    assert_string_equal(dsn.stream, "messages");
    assert_string_equal(dsn.group, "symfony");
    assert_null(dsn.consumer);
    assert_true(dsn.auto_setup);
    assert_true(dsn.delete_after_ack);
    assert_true(dsn.delete_after_reject);
    assert_int_equal(dsn.stream_max_entries, 0);
    assert_int_equal(dsn.dbindex, 0);
    assert_int_equal(dsn.redeliver_timeout_ms, 3600000);
    assert_int_equal(dsn.claim_interval_ms, 60000);
    assert_true(dsn.redis_serialized);
    assert_true(dsn.timeout_s == 0);
    assert_null(dsn.sentinel_master);
    assert_false(dsn.cluster);
    assert_true(dsn.tls_verify_peer);
    assert_true(dsn.tls_verify_name);
    assert_true(dsn.tls_sni);
    assert_false(dsn.tls_allow_self_signed);
    assert_null(dsn.tls_ca_file);
    assert_null(dsn.sentinel_password);
    dsn_redis_free(&dsn);
}

static void test_schemes_say_whether_there_is_tls(void **state)
{
    static const struct {
        const char *text;
        bool tls;
    } rows[] = {{"redis://h", false},
                {"rediss://h", true},
                {"valkey://h", false},
                {"valkeys://h", true},
                {"REDIS://h", false}};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct dsn_redis dsn = parse(rows[i].text);

        assert_int_equal(dsn.tls, rows[i].tls);
        dsn_redis_free(&dsn);
    }
}

static void test_the_path_is_stream_group_and_consumer(void **state)
{
    struct dsn_redis dsn = parse("redis://redis:6380/s/g/c/?stream=x&group=y&consumer=z");

    (void)state;
    expect_host(&dsn, 0, "redis", 6380);
    assert_string_equal(dsn.stream, "s");
    assert_string_equal(dsn.group, "g");
    assert_string_equal(dsn.consumer, "c");
    dsn_redis_free(&dsn);
    dsn = parse("redis://redis/s?group=y&consumer=z");
    assert_string_equal(dsn.stream, "s");
    assert_string_equal(dsn.group, "y");
    assert_string_equal(dsn.consumer, "z");
    dsn_redis_free(&dsn);
}

static void test_every_option_is_read(void **state)
{
    struct dsn_redis dsn = parse(
        "rediss://h?stream=s%20t&group=g+h&consumer=c&auto_setup=false&delete_after_ack=0&"
        "delete_after_reject=off&stream_max_entries=1000&dbindex=3&redeliver_timeout=60&"
        "claim_interval=500&lazy=yes&auth=pw&serializer=0&timeout=1.5&read_timeout=0.25&"
        "retry_interval=100&persistent_id=x&sentinel_master=m&cluster=no&redis_cluster=0&"
        "sentinel_auth[]=su&sentinel_auth[]=sp&ssl[verify_peer]=0&ssl[verify_peer_name]=false&"
        "ssl[allow_self_signed]=1&ssl[cafile]=/ca&ssl[capath]=/dir&ssl[local_cert]=/crt&"
        "ssl[local_pk]=/key&ssl[passphrase]=a+b&ssl[peer_name]=n&ssl[SNI_enabled]=0");

    (void)state;
    assert_string_equal(dsn.stream, "s t");
    assert_string_equal(dsn.group, "g h");
    assert_string_equal(dsn.consumer, "c");
    assert_false(dsn.auto_setup);
    assert_false(dsn.delete_after_ack);
    assert_false(dsn.delete_after_reject);
    assert_int_equal(dsn.stream_max_entries, 1000);
    assert_int_equal(dsn.dbindex, 3);
    assert_int_equal(dsn.redeliver_timeout_ms, 60000);
    assert_int_equal(dsn.claim_interval_ms, 500);
    assert_string_equal(dsn.password, "pw");
    assert_false(dsn.redis_serialized);
    assert_true(dsn.timeout_s == 1.5);
    assert_string_equal(dsn.sentinel_master, "m");
    assert_false(dsn.cluster);
    assert_false(dsn.tls_verify_peer);
    assert_false(dsn.tls_verify_name);
    assert_string_equal(dsn.tls_ca_file, "/ca");
    assert_string_equal(dsn.tls_cert_file, "/crt");
    assert_string_equal(dsn.tls_key_file, "/key");
    assert_string_equal(dsn.tls_peer_name, "n");
    assert_string_equal(dsn.tls_ca_path, "/dir");
    assert_string_equal(dsn.tls_passphrase, "a b");
    assert_true(dsn.tls_allow_self_signed);
    assert_false(dsn.tls_sni);
    assert_string_equal(dsn.sentinel_user, "su");
    assert_string_equal(dsn.sentinel_password, "sp");
    dsn_redis_free(&dsn);
}

static void expect_auth(const char *text, const char *user, const char *password)
{
    struct dsn_redis dsn = parse(text);

    expect_host(&dsn, 0, "h", 6379);
    if (user == NULL)
        assert_null(dsn.user);
    else
        assert_string_equal(dsn.user, user);
    if (password == NULL)
        assert_null(dsn.password);
    else
        assert_string_equal(dsn.password, password);
    dsn_redis_free(&dsn);
}

static void test_user_and_password_are_percent_decoded(void **state)
{
    (void)state;
    expect_auth("redis://u%40x:p%3Aa%2Fs%25+s@h", "u@x", "p:a/s%+s");
    expect_auth("redis://:p@h", NULL, "p");
    expect_auth("redis://p@h", NULL, "p");
    expect_auth("redis://default:p@h", NULL, "p");
    expect_auth("redis://u:@h", "u", NULL);
    expect_auth("redis://@h", NULL, NULL);
    expect_auth("redis://u:p%zz%4@h", "u", "p%zz%4");
    expect_auth("redis://:a/b@c@h/s", NULL, "a/b@c");
}

static void test_the_auth_option_goes_before_the_url(void **state)
{
    (void)state;
    expect_auth("redis://u:p@h?auth=secret", NULL, "secret");
    expect_auth("redis://u:p@h?auth[]=me&auth[]=secret", "me", "secret");
    expect_auth("redis://u:p@h?auth%5B%5D=secret", NULL, "secret");
    expect_auth("redis://h?auth[user]=me&auth[pass]=secret", "me", "secret");
    expect_auth("redis://h?auth[1]=secret&auth[0]=me", "me", "secret");
    expect_auth("redis://h?auth=", NULL, NULL);
}

static void test_a_socket_path_is_no_stream(void **state)
{
    struct dsn_redis dsn = parse("redis:///var/run/redis.sock?stream=s&dbindex=2");

    (void)state;
    assert_int_equal(dsn.hosts_len, 0);
    assert_string_equal(dsn.path, "/var/run/redis.sock");
    assert_string_equal(dsn.stream, "s");
    assert_int_equal(dsn.dbindex, 2);
    dsn_redis_free(&dsn);
    dsn = parse("redis://u:p@/run/redis.sock");
    assert_string_equal(dsn.path, "/run/redis.sock");
    assert_string_equal(dsn.stream, "messages");
    assert_string_equal(dsn.user, "u");
    assert_string_equal(dsn.password, "p");
    dsn_redis_free(&dsn);
}

static void test_ipv6_addresses_stand_in_brackets(void **state)
{
    struct dsn_redis dsn = parse("redis://[::1]:7000/s");

    (void)state;
    expect_host(&dsn, 0, "::1", 7000);
    dsn_redis_free(&dsn);
    dsn = parse("redis://[fe80::2]");
    expect_host(&dsn, 0, "fe80::2", 6379);
    dsn_redis_free(&dsn);
}

static void test_several_hosts_are_a_cluster(void **state)
{
    static const char *const texts[] = {
        "redis://u:p@a:7001,redis://u:p@b:7002,redis://u:p@c/{s}/g",
        "redis://u:p@a:7001,b:7002,c/{s}/g",
        "redis://u:p@?host[a:7001]&host[b:7002]&host[c]&stream={s}&group=g",
        "redis:?host%5Ba:7001%5D&host[b%3A7002]=&host[c:]&stream=%7Bs%7D&group=g&auth[]=u&auth[]=p",
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(texts); i++) {
        struct dsn_redis dsn = parse(texts[i]);

        assert_int_equal(dsn.hosts_len, 3);
        expect_host(&dsn, 0, "a", 7001);
        expect_host(&dsn, 1, "b", 7002);
        expect_host(&dsn, 2, "c", 6379);
        assert_true(dsn.cluster);
        assert_string_equal(dsn.stream, "{s}");
        assert_string_equal(dsn.group, "g");
        assert_string_equal(dsn.user, "u");
        assert_string_equal(dsn.password, "p");
        dsn_redis_free(&dsn);
    }
}

static void test_option_cluster_makes_one_host_a_cluster_with_database_0(void **state)
{
    struct dsn_redis dsn = parse("redis://a/x{s}?cluster=true&dbindex=4");

    (void)state;
    assert_true(dsn.cluster);
    assert_int_equal(dsn.dbindex, 0);
    dsn_redis_free(&dsn);
}

static void test_sentinels_have_a_master_by_any_of_three_names(void **state)
{
    static const char *const names[] = {"sentinel_master", "redis_sentinel", "sentinel"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
        char *text = xasprintf("redis://?host[a:26379]&host[b:26380]&%s=mymaster", names[i]);
        struct dsn_redis dsn = parse(text);

        assert_int_equal(dsn.hosts_len, 2);
        expect_host(&dsn, 0, "a", 26379);
        expect_host(&dsn, 1, "b", 26380);
        assert_string_equal(dsn.sentinel_master, "mymaster");
        assert_false(dsn.cluster);
        dsn_redis_free(&dsn);
        free(text);
    }
}

static void expect_fault(const char *text, const char *said)
{
    struct dsn_redis dsn;
    struct error err = {0};

    if (dsn_redis_parse(&dsn, text, &err) != -ERR_USAGE)
        fail_msg("%s was taken", text);
    if (strstr(err.text, said) == NULL)
        fail_msg("%s: \"%s\" does not say \"%s\"", text, err.text, said);
    if (strstr(err.text, "hunter2") != NULL)
        fail_msg("%s: \"%s\" shows the password", text, err.text);
}

static void test_unknown_options_are_all_named_with_the_nearest(void **state)
{
    (void)state;
    expect_fault("redis://h?strem=x", "\"strem\" (did you mean \"stream\"?)");
    expect_fault("redis://h?delete_after_akc=1&foo=2&dbindx=1",
                 "\"delete_after_akc\" (did you mean "
                 "\"delete_after_ack\"?), \"foo\", "
                 "\"dbindx\" (did you mean "
                 "\"dbindex\"?)");
    expect_fault("redis://h?tls=1", "rediss://");
    expect_fault("redis://h?ssl[verify_per]=1", "\"ssl[verify_per]\" (did you mean "
                                                "\"ssl[verify_peer]\"?)");
    expect_fault("redis://h?ssl=1", "\"ssl[]\"");
    expect_fault("redis://h?ssl[passphras]=hunter2", "\"ssl[passphrase]\"");
}

static void test_faulty_values_are_named(void **state)
{
    (void)state;
    expect_fault("redis://h?dbindex=one", "\"dbindex\"");
    expect_fault("redis://h?dbindex=-1", "\"dbindex\"");
    expect_fault("redis://h?redeliver_timeout=99999999999999999", "\"redeliver_timeout\"");
    expect_fault("redis://h?stream_max_entries=99999999999999999999", "\"stream_max_entries\"");
    expect_fault("redis://h?auto_setup=maybe", "\"auto_setup\"");
    expect_fault("redis://h?timeout=1s", "\"timeout\"");
    expect_fault("redis://h?timeout=nan", "\"timeout\"");
    expect_fault("redis://h?timeout=-1", "\"timeout\"");
    expect_fault("redis://h?timeout=0.0005", "\"timeout\" is 0 (the default) or at least 0.001");
    expect_fault("redis://h?lazy=perhaps", "\"lazy\"");
    expect_fault("redis://h?read_timeout=0.0009", "\"read_timeout\"");
    expect_fault("redis://h?serializer=2", "\"serializer\"");
    expect_fault("redis://h?stream[]=x", "\"stream\"");
    expect_fault("redis://h?auth[x]=hunter2", "\"auth\"");
    expect_fault("redis://h?ssl[verify_peer]=x", "\"ssl[verify_peer]\"");
    expect_fault("redis://h?host=a", "host[NAME:PORT]");
    expect_fault("rediss://h?ssl[local_pk]=/key", "needs ssl[local_cert]");
    expect_fault("redis://h?sentinel_auth=hunter2", "needs sentinel_master");
    expect_fault("redis://h?sentinel_master=m&sentinel_auth[x]=hunter2", "\"sentinel_auth\"");
    expect_fault("redis:///run/redis.sock?sentinel_master=m", "have hosts");
    expect_fault("redis:///run/redis.sock?cluster=1", "have hosts");
}

static void test_missing_or_contradictory_parts_of_a_redis_dsn_are_named(void **state)
{
    (void)state;
    expect_fault("", "scheme");
    expect_fault("localhost", "scheme");
    expect_fault("redis", "scheme");
    expect_fault("amqp://h", "redis://");
    expect_fault("redis:", "no host");
    expect_fault("redis://", "no host");
    expect_fault("redis:///", "no host");
    expect_fault("redis://:hunter2@", "no host");
    expect_fault("hunter2://x@h", "redis://");
    expect_fault("redis:6379/messages", "://HOST:PORT");
    expect_fault("redis://hunter2://x@h", "%3A");
    expect_fault("redis://u:hun://hunter2@h", "%3A");
    expect_fault("redis://a,,b/{s}", "Missing host");
    expect_fault("redis://a,b/messages", "{messages}");
    expect_fault("redis://a,b/{}messages", "hash tag");
    expect_fault("redis://a/{s}?cluster=1&sentinel=m", "Sentinel");
    expect_fault("rediss:///run/redis.sock", "no TLS");
    expect_fault("redis://h//g", "\"stream\"");
    expect_fault("redis://h/s//c", "\"group\"");
    expect_fault("redis://h?consumer=", "\"consumer\"");
    expect_fault("redis://?host[a]&host[b]&host[c]&host[d]&host[e]&host[f]&host[g]&host[h]&host[i]&"
                 "host[j]&host[k]&host[l]&host[m]&host[n]&host[o]&host[p]&host[q]",
                 "more than 16");
    expect_fault("redis://[::1", "]");
    expect_fault("redis://[::1]x", "]");
    expect_fault("redis://h:0", "port");
    expect_fault("redis://h:65536", "port");
    expect_fault("redis://h h", "white space");
    expect_fault("redis://u:hun%00ter2@h", "NUL");
    expect_fault("redis://h?stream=%00", "NUL");
}

static void test_a_password_that_was_not_encoded_is_not_shown(void **state)
{
    (void)state;
    expect_fault("redis://:hunter2", "no host");
    expect_fault("redis://u:hunter2/x", "port");
    expect_fault("redis://u:a?hunter2@h/messages", "port");
    expect_fault("redis://a?hunter2@h/messages", "name");
    expect_fault("redis://h?hunter2hunter2hunter2hunter2hunter2hunter2", "name");
}

static void expect_redacted(const char *text, const char *expected)
{
    struct buf out = {0};

    dsn_redacted(&out, text);
    assert_string_equal(buf_text(&out), expected);
    buf_free(&out);
}

static void test_redacted_shows_the_address_and_no_secret(void **state)
{
    (void)state;
    expect_redacted("redis://u:hunter2@redis:6379/messages?auth=hunter2",
                    "redis://redis:6379/messages");
    expect_redacted("rediss://redis", "rediss://redis:6379/messages");
    expect_redacted("redis:///run/redis.sock?auth=x", "redis:///run/redis.sock");
    expect_redacted("redis://redis/s?dbindex=4&auth=x", "redis://redis:6379/s?dbindex=4");
    expect_redacted("redis:///run/redis.sock?stream=s&dbindex=4",
                    "redis:///run/redis.sock?stream=s&dbindex=4");
    expect_redacted("redis://:p@a:1,redis://:p@b:2/{s}", "redis://a:1,b:2/{s}");
    expect_redacted("redis://?host[a:1]&host[::]&stream=s", "redis://...");
    expect_redacted("redis://?host[a:1]&host[b:2]&sentinel=m&sentinel_auth=hunter2",
                    "redis://a:1,b:2/messages?sentinel_master=m");
    expect_redacted("rediss://a:1/s?ssl[passphrase]=hunter2&sentinel=m&dbindex=2",
                    "rediss://a:1/s?sentinel_master=m&dbindex=2");
    expect_redacted("redis://a/{s}?redis_cluster=1", "redis://a:6379/{s}?cluster=1");
    expect_redacted("redis://[::1]/s", "redis://[::1]:6379/s");
    expect_redacted("redis://u:p@h?nonsense=1", "redis://h");
    expect_redacted("redis://u:hunter2", "redis://...");
    expect_redacted("redis://hun?ter2@h", "redis://...");
    expect_redacted("postgresql://app:hun/t@er2@database:5432/app?serverVersion=16&password=x",
                    "postgresql://database:5432/app");
    expect_redacted("postgresql://u:hun?ter2@db/app", "postgresql://...");
    expect_redacted("hunter2", "(no DSN)");
}

static void expect_conninfo(const char *text, const char *expected)
{
    struct buf out = {0};
    struct error err = {0};

    if (dsn_postgres_to_conninfo(&out, text, NULL, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    assert_string_equal(buf_text(&out), expected);
    buf_free(&out);
}

/* A spool's destination is kept in this form, and found again by it. */
static void test_a_redacted_address_is_a_dsn_of_that_address(void **state)
{
    static const char *const rows[][2] = {
        {"redis://u:p@b:2,a:2,a:1/{s}", "redis://a:1,a:2,b:2/{s}"},
        {"rediss://a,b/s?sentinel=m&dbindex=1",
         "rediss://a:6379,b:6379/s?sentinel_master=m&dbindex=1"},
        {"valkeys://a/{s}?cluster=1", "rediss://a:6379/{s}?cluster=1"},
        {"redis:///run/redis.sock?stream=s", "redis:///run/redis.sock?stream=s"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        expect_redacted(rows[i][0], rows[i][1]);
        expect_redacted(rows[i][1], rows[i][1]);
    }
}

static void test_masked_shows_all_but_passwords(void **state)
{
    static const char *const rows[][2] = {
        {"redis://redis:6379/messages", "redis://redis:6379/messages"},
        {"redis:///var/run/redis.sock?auth[]=u&auth[]=pw",
         "redis:///var/run/redis.sock?auth[]=***&auth[]=***"},
        {"redis://:pw@redis/m?lazy=1", "redis://:***@redis/m?lazy=1"},
        {"redis://pw@redis/m", "redis://***@redis/m"},
        {"redis://u:p@w@redis/m", "redis://u:***@redis/m"},
        {"redis://redis/m?auth=pw&lazy=1", "redis://redis/m?auth=***&lazy=1"},
        {"redis://redis/m?%61uth=pw&lazy=1", "redis://redis/m?%61uth=***&lazy=1"},
        {"redis://u:p@a:1,redis://v:q@b:2/m", "redis://***@b:2/m"},
        {"redis://a/m?sentinel=s&sentinel_auth[]=u&ssl[passphrase]=pw",
         "redis://a/m?sentinel=s&sentinel_auth[]=***&ssl[passphrase]=***"},
        {"redis://u:p/w?x@redis/m", "redis://***"},
        {"postgresql://u:p,w@a:1,b:2/d?sslpassword=x&sslmode=require",
         "postgresql://u:***@a:1,b:2/d?sslpassword=***&sslmode=require"},
        {"hunter2", "***"},
        {"redis://hunt://er2@h/x", "redis://***@h/x"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf out = {0};

        dsn_masked(&out, rows[i][0]);
        assert_string_equal(buf_text(&out), rows[i][1]);
        buf_free(&out);
    }
}

static void test_doctrines_url_becomes_libpqs_string(void **state)
{
    (void)state;
    expect_conninfo("postgresql://app:secret@database:5433/app?serverVersion=16&charset=utf8",
                    "user='app' password='secret' host='database' port='5433' dbname='app'");
    expect_conninfo("postgres://database/app", "host='database' port='5432' dbname='app'");
    expect_conninfo("pgsql://database", "host='database' port='5432' dbname='postgres'");
    expect_conninfo("pdo-pgsql://h/d", "host='h' port='5432' dbname='d'");
    expect_conninfo("postgresql://u%40x:p%27%5C%2F@h/d%20b",
                    "user='u@x' password='p\\'\\\\/' host='h' port='5432' dbname='d b'");
    expect_conninfo("postgresql:///d?host=/run/postgresql&driverOptions[x]=1",
                    "dbname='d' host='/run/postgresql'");
    expect_conninfo("postgresql://[::1]:6000/d", "host='::1' port='6000' dbname='d'");
    expect_conninfo("postgresql://a,b:5433/d", "host='a,b' port='5432,5433' dbname='d'");
}

static void test_libpqs_own_options_are_passed_on(void **state)
{
    (void)state;
    expect_conninfo("postgresql://h/d?sslmode=verify-full&sslrootcert=/ca&connect_timeout=3&"
                    "application_name=my%20app",
                    "host='h' port='5432' dbname='d' sslmode='verify-full' sslrootcert='/ca' "
                    "connect_timeout='3' application_name='my app'");
}

static void test_an_option_that_php_ignores_is_ignored_and_named(void **state)
{
    struct buf out = {0}, overlooked = {0};
    struct error err = {0};

    (void)state;
    assert_int_equal(
        dsn_postgres_to_conninfo(&out,
                                 "postgresql://h/d?schema=public&sslmod=require&serverversion=16&"
                                 "unix_socket=/run&default_dbname=x&host[x]=1&sslmode=require",
                                 &overlooked, &err),
        0);
    assert_string_equal(buf_text(&out), "host='h' port='5432' dbname='d' sslmode='require'");
    assert_string_equal(buf_text(&overlooked),
                        "`schema`, `sslmod` (did you mean `sslmode`?), `serverversion` (did you "
                        "mean `serverVersion`?), `unix_socket`, `default_dbname`, `host`");
    buf_free(&out);
    buf_free(&overlooked);
}

static void test_a_faulty_database_url_is_in_the_error_without_password(void **state)
{
    static const struct {
        const char *text;
        const char *said;
    } rows[] = {
        {"", "scheme"},
        {"mysql://u:hunter2@h/d", "mysql"},
        {"redis://h", "postgresql://"},
        {"postgresql+asyncpg://u:hunter2@h/d", "write postgresql://"},
        {"postgresql://u:hunter2/d", "port"},
        {"postgres:5432/d", "://HOST:PORT"},
        {"postgresql://u:x://hunter2@h/d", "%3A"},
        {"postgresql://u:hunter2?x@h/d", "port"},
        {"postgresql://u?hunter2@h/d", "name"},
        {"postgresql://h/%00", "NUL"},
        {"postgresql://h/d?user=%00", "NUL"},
        {"postgresql://a,,b/d", "no host"},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        struct buf out = {0};
        struct error err = {0};

        assert_int_equal(dsn_postgres_to_conninfo(&out, rows[i].text, NULL, &err), -ERR_USAGE);
        if (strstr(err.text, rows[i].said) == NULL || strstr(err.text, "hunter2") != NULL)
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_int_equal(out.len, 0);
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bare_host_has_symfonys_defaults),
        cmocka_unit_test(test_schemes_say_whether_there_is_tls),
        cmocka_unit_test(test_the_path_is_stream_group_and_consumer),
        cmocka_unit_test(test_every_option_is_read),
        cmocka_unit_test(test_user_and_password_are_percent_decoded),
        cmocka_unit_test(test_the_auth_option_goes_before_the_url),
        cmocka_unit_test(test_a_socket_path_is_no_stream),
        cmocka_unit_test(test_ipv6_addresses_stand_in_brackets),
        cmocka_unit_test(test_several_hosts_are_a_cluster),
        cmocka_unit_test(test_option_cluster_makes_one_host_a_cluster_with_database_0),
        cmocka_unit_test(test_sentinels_have_a_master_by_any_of_three_names),
        cmocka_unit_test(test_unknown_options_are_all_named_with_the_nearest),
        cmocka_unit_test(test_faulty_values_are_named),
        cmocka_unit_test(test_missing_or_contradictory_parts_of_a_redis_dsn_are_named),
        cmocka_unit_test(test_a_password_that_was_not_encoded_is_not_shown),
        cmocka_unit_test(test_redacted_shows_the_address_and_no_secret),
        cmocka_unit_test(test_a_redacted_address_is_a_dsn_of_that_address),
        cmocka_unit_test(test_masked_shows_all_but_passwords),
        cmocka_unit_test(test_doctrines_url_becomes_libpqs_string),
        cmocka_unit_test(test_libpqs_own_options_are_passed_on),
        cmocka_unit_test(test_an_option_that_php_ignores_is_ignored_and_named),
        cmocka_unit_test(test_a_faulty_database_url_is_in_the_error_without_password),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
