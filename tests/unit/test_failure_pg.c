#include "common/client/failure_pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void expect_in(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("%s\nis not in\n%s", part, text);
}

static void test_the_index_has_the_name_that_doctrine_gives_it(void **state)
{
    struct failure_pg_sql sql;

    (void)state;
    assert_int_equal(failure_pg_sql_make(&sql, "messenger_messages", NULL), 0);
    expect_in(sql.setup,
              "CREATE INDEX IF NOT EXISTS idx_75ea56e0fb7336f0e3bd61ce16ba31dbbf396750 ON "
              "\"messenger_messages\" (queue_name, available_at, delivered_at, id);");
    failure_pg_sql_free(&sql);
}

static void test_a_name_is_read_as_postgresql_reads_it_without_quotes(void **state)
{
    struct failure_pg_sql sql;

    (void)state;
    assert_int_equal(failure_pg_sql_make(&sql, "App.Order", NULL), 0);
    expect_in(sql.exists, "to_regclass('\"app\".\"order\"')");
    expect_in(sql.count, "FROM \"app\".\"order\" WHERE");
    expect_in(sql.insert, "INSERT INTO \"app\".\"order\" (");
    expect_in(sql.insert_unless, "FROM \"app\".\"order\" WHERE");
    expect_in(sql.setup, "CREATE OR REPLACE FUNCTION \"app\".\"notify_order\"()");
    expect_in(sql.setup, "pg_notify('App.Order', NEW.queue_name::text)");
    failure_pg_sql_free(&sql);
}

static void test_an_invalid_table_name_is_refused(void **state)
{
    static const char *const names[] = {
        "",         ".",     "a.",
        ".a",       "a.b.c", "a b",
        "1a",       "a\"b",  "a'; --",
        "\xC3\xA9", "$a",    "a-b",
        "\"a\"",    "a;b",   "a234567890123456789012345678901234567890123456789012345678901234"};

    (void)state;
    for (size_t i = 0; i < LENGTH_OF(names); i++) {
        struct failure_pg_sql sql = {0};
        struct error err = {0};

        assert_int_equal(failure_pg_sql_make(&sql, names[i], &err), -ERR_USAGE);
        assert_non_null(strstr(err.text, "table"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_index_has_the_name_that_doctrine_gives_it),
        cmocka_unit_test(test_a_name_is_read_as_postgresql_reads_it_without_quotes),
        cmocka_unit_test(test_an_invalid_table_name_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
