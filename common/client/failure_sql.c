#include "common/client/failure_sql.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/client/failure.h"
#include "common/client/failure_admin.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define IDENTIFIER_LENGTH_MAX 63
#define LOCK_SPACE            0x6D71 /* "mq": our advisory locks among the database's */

static bool is_identifier(struct bytes name)
{
    if (name.len == 0 || name.len > IDENTIFIER_LENGTH_MAX || isdigit((unsigned char)name.data[0]))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.data[i];

        if (!isalnum(c) && c != '_' && c != '$')
            return false;
    }
    return name.data[0] != '$';
}

/* As PostgreSQL reads a name without quotes: in lower case. With quotes it may be a reserved word. */
static void append_name(struct buf *out, struct bytes schema, const char *prefix, struct bytes name)
{
    if (schema.len > 0) {
        append_name(out, BYTES_NONE, "", schema);
        buf_append_char(out, '.');
    }
    buf_printf(out, "\"%s", prefix);
    for (size_t i = 0; i < name.len; i++)
        buf_append_char(out, (char)tolower((unsigned char)name.data[i]));
    buf_append_char(out, '"');
}

/* CRC-32 as PHP's crc32(), which Doctrine makes the names of indexes with. */
static unsigned crc32_of(const char *text)
{
    unsigned crc = ~0U;

    for (; *text != '\0'; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xEDB88320U & (0U - (crc & 1)));
    }
    return ~crc;
}

static void append_index_name(struct buf *out, const char *table)
{
    static const char *const columns[] = {"queue_name", "available_at", "delivered_at", "id"};

    buf_printf(out, "idx_%x", crc32_of(table));
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
        buf_printf(out, "%x", crc32_of(columns[i]));
}

/* The id is a serial, as Doctrine's DBAL 2 and 3 make it: of an identity they would make a serial, and fail, for its
 * sequence has the name that they give theirs. DBAL 4 makes an identity of a serial, which begins at 1 again: count_on. */
static char *make_setup(const char *table, const char *quoted, const char *function)
{
    struct buf sql = {0};

    buf_printf(&sql, "SELECT pg_advisory_xact_lock(%d, %d);\n", LOCK_SPACE, (int)crc32_of(quoted));
    buf_printf(&sql,
               "CREATE TABLE IF NOT EXISTS %s ("
               "id BIGSERIAL NOT NULL, "
               "body TEXT NOT NULL, "
               "headers TEXT NOT NULL, "
               "queue_name VARCHAR(190) NOT NULL, "
               "created_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL, "
               "available_at TIMESTAMP(0) WITHOUT TIME ZONE NOT NULL, "
               "delivered_at TIMESTAMP(0) WITHOUT TIME ZONE DEFAULT NULL, "
               "PRIMARY KEY (id));\n",
               quoted);
    buf_append_text(&sql, "CREATE INDEX IF NOT EXISTS ");
    append_index_name(&sql, table);
    buf_printf(&sql, " ON %s (queue_name, available_at, delivered_at, id);\n", quoted);
    buf_printf(&sql,
               "CREATE OR REPLACE FUNCTION %s() RETURNS TRIGGER AS $$\n"
               "    BEGIN\n"
               "        PERFORM pg_notify('%s', NEW.queue_name::text);\n"
               "        RETURN NEW;\n"
               "    END;\n"
               "$$ LANGUAGE plpgsql;\n",
               function, table);
    buf_printf(&sql, "DROP TRIGGER IF EXISTS notify_trigger ON %s;\n", quoted);
    buf_printf(&sql,
               "CREATE TRIGGER notify_trigger AFTER INSERT OR UPDATE ON %s "
               "FOR EACH ROW EXECUTE PROCEDURE %s();",
               quoted, function);
    return buf_take_text(&sql);
}

/* A time that is given in UTC, as the rows have it: in the zone of $5. */
#define LOCAL(time) "(" time "::timestamp AT TIME ZONE 'UTC' AT TIME ZONE $5::text)"

static void make_statements(struct failure_sql *sql, const char *quoted)
{
    static const char columns[] = "(body, headers, queue_name, created_at, available_at)";

    sql->insert = xasprintf(
        "INSERT INTO %s %s VALUES ($1, $2, $3, " LOCAL("$4") ", " LOCAL("$4") ")", quoted, columns);
    /* available_at is what the index has. */
    sql->insert_unless = xasprintf(
        "INSERT INTO %s %s SELECT $1::text, $2::text, $3::varchar, " LOCAL("$4") ", " LOCAL(
            "$6") " WHERE NOT EXISTS (SELECT 1 FROM %s WHERE queue_name = $3::varchar "
                  "AND available_at IN (" LOCAL("$6") ", " LOCAL(
                      "$7") ") "
                            "AND position($8::text IN headers) > 0) "
                            "AND ($9::text = '' OR NOT EXISTS (SELECT 1 FROM (SELECT queue_name, "
                            "headers "
                            "FROM %s ORDER BY id DESC LIMIT %d) AS latest WHERE queue_name = "
                            "$3::varchar "
                            "AND position($9::text IN headers) > 0))",
        quoted, columns, quoted, quoted, FAILURE_ROWS_LOOKED_THROUGH);
    sql->count_on = xasprintf("SELECT setval(pg_get_serial_sequence('%s', 'id'), greatest((SELECT "
                              "max(id) FROM %s), 1))",
                              quoted, quoted);
    sql->exists = xasprintf("SELECT count(to_regclass('%s'))", quoted);
    sql->count = xasprintf("SELECT count(*) FROM %s WHERE queue_name = $1", quoted);
}

/* Times as numbers, whatever type the columns have: one without a zone is of the session's, but for the last column. */
static char *admin_columns(int body_most, const char *taken)
{
    return xasprintf("id, headers, CASE WHEN octet_length(body) <= $%d::bigint THEN body END, "
                     "octet_length(body) + octet_length(headers), "
                     "floor(extract(epoch FROM created_at::timestamptz) * 1000000)::bigint, %s, "
                     "floor(extract(epoch FROM created_at) * 1000000)::bigint",
                     body_most, taken);
}

static void make_admin_statements(struct failure_sql *sql, const char *quoted)
{
    char *taken = xasprintf("coalesce(extract(epoch FROM delivered_at::timestamptz) > "
                            "extract(epoch FROM now()) - %d, false)",
                            FAILURE_TAKEN_S);
    char *listed = admin_columns(6, taken);
    char *locked = admin_columns(4, taken);
    char *wanted = xasprintf("FROM %s WHERE queue_name = $1::varchar "
                             "AND ($2::bigint = 0 OR "
                             "extract(epoch FROM created_at::timestamptz) * 1000000 >= $2::bigint) "
                             "AND ($3::bigint = 0 OR "
                             "extract(epoch FROM created_at::timestamptz) * 1000000 < $3::bigint) "
                             "AND ($4::bigint[] IS NULL OR id = ANY ($4::bigint[]))",
                             quoted);

    sql->list_newest = xasprintf("SELECT %s %s ORDER BY id DESC LIMIT $5::bigint", listed, wanted);
    sql->list_oldest = xasprintf("SELECT %s %s ORDER BY id LIMIT $5::bigint", listed, wanted);
    sql->take =
        xasprintf("SELECT %s FROM %s WHERE queue_name = $1::varchar AND id = ANY ($2::bigint[]) "
                  "AND ($3::boolean OR NOT %s) FOR UPDATE SKIP LOCKED",
                  locked, quoted, taken);
    sql->remove = xasprintf("WITH gone AS (DELETE FROM %s WHERE queue_name = $1::varchar AND "
                            "id = ANY ($2::bigint[]) RETURNING 1) SELECT count(*) FROM gone",
                            quoted);
    free(taken);
    free(listed);
    free(locked);
    free(wanted);
}

int failure_sql_make(struct failure_sql *sql, const char *table, struct error *err)
{
    struct bytes schema = BYTES_NONE, name = bytes_of(table), head, tail;
    struct buf quoted = {0}, function = {0};

    bool has_schema = bytes_split(name, '.', &head, &tail);
    if (has_schema) {
        schema = head;
        name = tail;
    }
    if (!is_identifier(name) || (has_schema && !is_identifier(schema)))
        return error_set(
            err, ERR_USAGE,
            "[failure] table \"%.100s\" is no table's name: letters, digits and _, with "
            "an optional SCHEMA. in front",
            table);
    append_name(&quoted, schema, "", name);
    append_name(&function, schema, "notify_", name);
    make_statements(sql, buf_text(&quoted));
    make_admin_statements(sql, buf_text(&quoted));
    sql->setup = make_setup(table, buf_text(&quoted), buf_text(&function));
    buf_free(&quoted);
    buf_free(&function);
    return 0;
}

char *failure_sql_begin(const char *identity, int timeout_ms)
{
    return xasprintf("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = %d; "
                     "SET LOCAL lock_timeout = %d; SELECT pg_advisory_xact_lock(%d, %d)",
                     timeout_ms, timeout_ms - 1000, LOCK_SPACE + 1, (int)crc32_of(identity));
}

void failure_sql_free(struct failure_sql *sql)
{
    free(sql->insert);
    free(sql->insert_unless);
    free(sql->setup);
    free(sql->count_on);
    free(sql->exists);
    free(sql->count);
    free(sql->list_newest);
    free(sql->list_oldest);
    free(sql->take);
    free(sql->remove);
    *sql = (struct failure_sql){0};
}
