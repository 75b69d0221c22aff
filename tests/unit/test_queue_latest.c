/* The hash of last values, against a real Redis: which of two documents stays, how many there are, how they are read. */
#include "common/client/queue.h"

#include "tests/unit/queue_case.h"

#define OTHER_SPOOL "ffeeddccbbaa99887766554433221100"
#define HASH        "{messages}__latest"

static void add(struct queue_batch *batch, const char *topic, const char *document)
{
    buf_append_text(&batch->value, topic);
    queue_batch_add(batch);
    buf_clear(&batch->value);
    buf_append_text(&batch->value, document);
    queue_batch_add(batch);
    buf_clear(&batch->value);
}

static int keep_batch(struct fixture *fixture, int64_t limit, struct queue_batch *batch)
{
    struct queue_answer answer = {0};

    queue_keep_latest(fixture->queue, limit, batch, on_done, &answer);
    queue_batch_free(batch);
    wait_for(fixture->queue, &answer);
    return answer.result;
}

/* second: of the time of receipt; 0: none. */
static void write_document(char document[256], const char *id, int second, const char *payload)
{
    char time[64] = "";

    if (second > 0)
        snprintf(time, sizeof(time), ",\"receivedAt\":\"2026-11-24T10:00:%02d.000000Z\"", second);
    snprintf(document, 256, "{\"id\":\"%s\",\"topic\":\"t\",\"payload\":%s%s}", id, payload, time);
}

static void keep(struct fixture *fixture, const char *id, int second, const char *payload)
{
    struct queue_batch batch = {0};
    char document[256];

    write_document(document, id, second, payload);
    add(&batch, "t", document);
    assert_int_equal(keep_batch(fixture, 10, &batch), 0);
}

static void expect_kept(struct fixture *fixture, const char *payload)
{
    const struct bytes words[] = {BYTES("HGET"), BYTES(HASH), BYTES("t")};
    char wanted[100];
    struct error err = {0};
    redisReply *reply = redis_call(fixture->redis, words, 3, &err);

    snprintf(wanted, sizeof(wanted), "\"payload\":%s", payload);
    assert_non_null(reply);
    assert_non_null(reply->str);
    if (strstr(reply->str, wanted) == NULL)
        fail_msg("%s instead of %s", reply->str, wanted);
    redis_reply_free(reply);
}

struct stated {
    const char *id;
    int second;
};

/* Whichever comes first, the newer one is kept in the end. */
static void expect_newer(struct fixture *fixture, struct stated newer, struct stated older)
{
    command(fixture, "DEL " HASH);
    keep(fixture, newer.id, newer.second, "\"newer\"");
    keep(fixture, older.id, older.second, "\"older\"");
    expect_kept(fixture, "\"newer\"");
    command(fixture, "DEL " HASH);
    keep(fixture, older.id, older.second, "\"older\"");
    keep(fixture, newer.id, newer.second, "\"newer\"");
    expect_kept(fixture, "\"newer\"");
}

static void test_the_newest_document_is_kept_whichever_comes_first(void **state)
{
    struct fixture *fixture = *state;

    /* Within a spool the sequence tells, whatever the clock says. */
    expect_newer(fixture, (struct stated){SPOOL "-10", 1}, (struct stated){SPOOL "-9", 5});
    expect_newer(fixture, (struct stated){SPOOL "-9007199254740993", 1},
                 (struct stated){SPOOL "-9007199254740992", 1});
    expect_newer(fixture, (struct stated){SPOOL "-18446744073709551615", 1},
                 (struct stated){SPOOL "-2", 1});
    /* Between spools the time of receipt. */
    expect_newer(fixture, (struct stated){OTHER_SPOOL "-1", 6}, (struct stated){SPOOL "-900", 5});
    expect_newer(fixture, (struct stated){SPOOL "-1", 6}, (struct stated){OTHER_SPOOL "-900", 5});
    /* Of other programs' entries the order of their dispatch. */
    expect_newer(fixture, (struct stated){"1795514400000-10-00c0ffee", 0},
                 (struct stated){"1795514400000-9-0badcafe", 0});
    expect_newer(fixture, (struct stated){"1795514400000-0-00c0ffee", 0},
                 (struct stated){"1795514399999-99-00c0ffee", 0});
    expect_newer(fixture, (struct stated){"11795514400000-0-00c0ffee", 0},
                 (struct stated){"9795514399999-99-00c0ffee", 0});
}

static void test_a_repeat_writes_nothing(void **state)
{
    struct fixture *fixture = *state;

    keep(fixture, SPOOL "-1", 1, "\"first\"");
    keep(fixture, SPOOL "-1", 1, "\"repeat\"");
    expect_kept(fixture, "\"first\"");
}

static void test_a_payload_that_looks_like_a_document_decides_nothing(void **state)
{
    struct fixture *fixture = *state;

    /* The time in the payload stands where that of a document would. */
    keep(fixture, "1795514400000-10-00c0ffee", 0, "{\"receivedAt\":\"1999-01-01\"}");
    keep(fixture, "1795514400000-9-00c0ffee", 0,
         "{\"id\":\"1795514400000-99-00c0ffee\",\"receivedAt\":\"2099-01-01\"}");
    expect_kept(fixture, "{\"receivedAt\":\"1999-01-01\"}");
}

static void test_a_last_value_that_is_no_document_is_replaced(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "HSET " HASH " t 5");
    keep(fixture, SPOOL "-1", 1, "\"first\"");
    expect_kept(fixture, "\"first\"");
}

static void keep_topics(struct fixture *fixture, int from, int to, int64_t limit)
{
    struct queue_batch batch = {0};

    for (int i = from; i < to; i++) {
        char topic[20], id[64], document[256];

        snprintf(topic, sizeof(topic), "topic-%d", i);
        snprintf(id, sizeof(id), SPOOL "-%d", i);
        write_document(document, id, 1 + i % 59, "1");
        add(&batch, topic, document);
    }
    assert_int_equal(keep_batch(fixture, limit, &batch), 0);
}

static void test_beyond_the_limit_the_topic_received_longest_ago_is_deleted(void **state)
{
    struct fixture *fixture = *state;

    /* Of so few all are drawn. */
    keep_topics(fixture, 0, 4, 4);
    keep_topics(fixture, 4, 5, 4);
    assert_int_equal(command(fixture, "HLEN " HASH), 4);
    assert_int_equal(command(fixture, "HEXISTS " HASH " topic-0"), 0);
    assert_int_equal(command(fixture, "HEXISTS " HASH " topic-4"), 1);
    keep_topics(fixture, 10, 20, 4);
    assert_int_equal(command(fixture, "HLEN " HASH), 4);
    assert_int_equal(command(fixture, "HEXISTS " HASH " topic-4"), 0);
    assert_int_equal(command(fixture, "HEXISTS " HASH " topic-19"), 1);
}

static void test_a_lower_limit_is_reached_step_by_step(void **state)
{
    struct fixture *fixture = *state;
    int64_t len = 300, before;

    keep_topics(fixture, 0, 300, 1000);
    do {
        before = len;
        keep_topics(fixture, 299, 300, 5);
        len = command(fixture, "HLEN " HASH);
        assert_true(len < before);
    } while (len > 5);
    keep_topics(fixture, 299, 300, 5);
    assert_int_equal(command(fixture, "HLEN " HASH), 5);
}

static void test_a_full_redis_refuses_values_and_takes_acknowledgements(void **state)
{
    struct fixture *fixture = *state;
    struct queue_batch batch = {0};
    struct queue_answer refused = {0}, acknowledged = {0};

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct queue_answer read = read_new(fixture, "w-1", 1);
    command(fixture, "CONFIG SET maxmemory 1");
    add(&batch, "t", "{\"id\":\"" SPOOL "-1\",\"topic\":\"t\",\"payload\":1}");
    queue_keep_latest(fixture->queue, 10, &batch, on_done, &refused);
    queue_acknowledge(fixture->queue, read.ids, 1, true, on_done, &acknowledged);
    queue_batch_free(&batch);
    wait_for(fixture->queue, &acknowledged);
    assert_int_equal(refused.result, -ERR_UNREACHABLE);
    assert_non_null(strstr(refused.text, "OOM"));
    assert_int_equal(acknowledged.result, 0);
    assert_true(queue_is_connected(fixture->queue));
    assert_int_equal(command(fixture, "XLEN messages"), 0);
    assert_int_equal(command(fixture, "EXISTS " HASH), 0);
}

static void test_a_server_that_forgets_its_scripts_keeps_values(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "SCRIPT FLUSH");
    keep(fixture, SPOOL "-1", 1, "\"first\"");
    expect_kept(fixture, "\"first\"");
}

/* What a scan has brought. */
struct scan {
    struct queue_answer answer;
    uint64_t cursor;
    size_t documents;
    size_t left_out;
    bool seen[2000];
};

static void on_latest(void *context, int result, uint64_t cursor, const struct queue_latest *latest,
                      size_t len, const struct error *err)
{
    struct scan *scan = context;

    on_done(&scan->answer, result, err);
    scan->cursor = cursor;
    for (size_t i = 0; i < len; i++) {
        int number = -1;

        assert_int_equal(sscanf(latest[i].topic.data, "topic-%d", &number), 1);
        scan->seen[number] = true;
        scan->documents += latest[i].document.data != NULL;
        scan->left_out += latest[i].document.data == NULL;
    }
}

static size_t read_all(struct fixture *fixture, struct scan *scan, size_t bytes)
{
    size_t calls = 0;

    do {
        scan->answer = (struct queue_answer){0};
        queue_scan_latest(fixture->queue, scan->cursor, 100, bytes, on_latest, scan);
        wait_for(fixture->queue, &scan->answer);
        assert_int_equal(scan->answer.result, 0);
        calls++;
    } while (scan->cursor != 0);
    return calls;
}

static void test_all_values_are_read_in_parts(void **state)
{
    struct fixture *fixture = *state;
    static struct scan scan, small;

    memset(&scan, 0, sizeof(scan));
    memset(&small, 0, sizeof(small));
    assert_int_equal(read_all(fixture, &scan, SIZE_MAX), 1);
    keep_topics(fixture, 0, 2000, 10000);
    assert_true(read_all(fixture, &scan, SIZE_MAX) >= 10);
    for (size_t i = 0; i < 2000; i++)
        assert_true(scan.seen[i]);
    assert_int_equal(scan.left_out, 0);
    size_t calls = read_all(fixture, &small, 1);
    assert_int_equal(small.documents, calls); /* the first of each reading */
    assert_true(small.left_out > 0);
}

static void test_values_are_forgotten_all_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};

    keep(fixture, SPOOL "-1", 1, "\"first\"");
    queue_forget_latest(fixture->queue, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(command(fixture, "EXISTS " HASH), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(test_the_newest_document_is_kept_whichever_comes_first),
        WITH_REDIS(test_a_repeat_writes_nothing),
        WITH_REDIS(test_a_payload_that_looks_like_a_document_decides_nothing),
        WITH_REDIS(test_a_last_value_that_is_no_document_is_replaced),
        WITH_REDIS(test_beyond_the_limit_the_topic_received_longest_ago_is_deleted),
        WITH_REDIS(test_a_lower_limit_is_reached_step_by_step),
        WITH_REDIS(test_a_full_redis_refuses_values_and_takes_acknowledgements),
        WITH_REDIS(test_a_server_that_forgets_its_scripts_keeps_values),
        WITH_REDIS(test_all_values_are_read_in_parts),
        WITH_REDIS(test_values_are_forgotten_all_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
