/* Last values on their way from published entries to a real Redis. */
#include "worker/latest.h"

#include "tests/unit/queue_case.h"

#include "common/wire/json.h"
#include "common/wire/update.h"

#define HASH "{messages}__latest"

static struct envelope envelope_of(const char *topic, struct bytes payload)
{
    return (struct envelope){
        .topic = bytes_of(topic), .payload = payload, .received_us = INT64_C(1795514400123456)};
}

static struct entry entry_of(const char *id, const char *topic, const char *payload)
{
    return (struct entry){
        .identity = bytes_of(id), .envelope = envelope_of(topic, bytes_of(payload)), .shown = true};
}

/* Sends, and waits until an acknowledgement behind it is answered. */
static void send_and_wait(struct fixture *fixture, struct latest *latest)
{
    struct queue_answer behind = {0};
    const struct stream_id none = {1, 1};

    latest_send(latest, fixture->queue);
    queue_acknowledge(fixture->queue, &none, 1, true, on_done, &behind);
    wait_for(fixture->queue, &behind);
}

static void expect_document(struct fixture *fixture, const char *topic, const char *expected)
{
    const struct bytes words[] = {BYTES("HGET"), BYTES(HASH), bytes_of(topic)};
    struct error err = {0};
    redisReply *reply = redis_call(fixture->redis, words, 3, &err);

    assert_non_null(reply);
    if (expected == NULL)
        assert_int_equal(reply->type, REDIS_REPLY_NIL);
    else
        assert_string_equal(reply->str, expected);
    redis_reply_free(reply);
}

static void test_messages_published_to_everybody_are_kept_as_documents(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(100);
    struct entry shown = entry_of(SPOOL "-1", "a/é \"b\"", "21.50");
    struct entry hidden = entry_of(SPOOL "-2", "private", "1");
    struct entry strange = entry_of("somebody's", "strange", "1");
    struct entry other = entry_of("1795514400000-0-00c0ffee", "php", "\xff");

    hidden.shown = false;
    other.envelope.received_us = 0;
    latest_add(latest, &shown);
    latest_add(latest, &hidden);
    latest_add(latest, &strange);
    latest_add(latest, &other);
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "HLEN " HASH), 2);
    expect_document(fixture, "a/é \"b\"",
                    "{\"id\":\"" SPOOL "-1\",\"topic\":\"a/é \\\"b\\\"\",\"payload\":21.50,"
                    "\"receivedAt\":\"2026-11-24T10:00:00.123456Z\"}");
    expect_document(fixture, "php",
                    "{\"id\":\"1795514400000-0-00c0ffee\",\"topic\":\"php\",\"payload\":\"/w==\","
                    "\"encoding\":\"base64\"}");
    latest_free(latest);
}

static void test_each_message_of_a_batch_is_kept(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(100);
    struct entry first = entry_of(SPOOL "-1", "unused", "0");
    struct buf *documents = &first.carried.documents;

    for (int i = 1; i <= 4; i++) {
        char id[64], topic[32];

        snprintf(id, sizeof(id), SPOOL "-%d", i);
        snprintf(topic, sizeof(topic), "\"%d", i % 3);
        if (documents->len > 0)
            buf_append_char(documents, ',');
        update_document(documents, bytes_of(id), bytes_of(topic), BYTES("{\"a\":[1,\"]\"]}"), 1);
    }
    latest_add(latest, &first);
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "HLEN " HASH), 3);
    expect_document(fixture, "\"1",
                    "{\"id\":\"" SPOOL "-4\",\"topic\":\"\\\"1\",\"payload\":{\"a\":[1,\"]\"]},"
                    "\"receivedAt\":\"1970-01-01T00:00:00.000001Z\"}");
    buf_free(documents);
    latest_free(latest);
}

static void test_a_long_payload_is_kept_as_its_length(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(100);
    static char payload[LATEST_DOCUMENT_MAX + 1], topic[LATEST_DOCUMENT_MAX];
    struct entry batch = entry_of(SPOOL "-4", "unused", "0");

    /* Too long at once; too long as a document; just short enough; a topic that leaves no room. */
    const size_t lengths[] = {sizeof(payload), LATEST_DOCUMENT_MAX - 100,
                              LATEST_DOCUMENT_MAX - 200};
    memset(payload, 'x', sizeof(payload));
    memset(topic, 't', sizeof(topic) - 1);
    for (size_t i = 0; i < 3; i++) {
        struct entry entry = entry_of(SPOOL "-1", (const char *[]){"a", "b", "c"}[i], "");

        entry.envelope.payload = (struct bytes){payload, lengths[i]};
        latest_add(latest, &entry);
    }
    struct entry unnameable = entry_of(SPOOL "-1", topic, "1");
    latest_add(latest, &unnameable);
    update_document(&batch.carried.documents, BYTES(SPOOL "-4"), BYTES("d"),
                    (struct bytes){payload, sizeof(payload)}, 1);
    latest_add(latest, &batch);
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "HLEN " HASH), 4);
    expect_document(fixture, "a",
                    "{\"id\":\"" SPOOL "-1\",\"topic\":\"a\",\"bytes\":16385,"
                    "\"receivedAt\":\"2026-11-24T10:00:00.123456Z\"}");
    expect_document(fixture, "b",
                    "{\"id\":\"" SPOOL "-1\",\"topic\":\"b\",\"bytes\":16284,"
                    "\"receivedAt\":\"2026-11-24T10:00:00.123456Z\"}");
    assert_true(command(fixture, "HSTRLEN " HASH " c") > (int64_t)LATEST_DOCUMENT_MAX - 200);
    assert_true(command(fixture, "HSTRLEN " HASH " d") < 200);
    buf_free(&batch.carried.documents);
    latest_free(latest);
}

static void test_last_values_are_sent_again_until_acknowledged(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(100);
    struct entry entry = entry_of(SPOOL "-1", "t", "1");

    latest_add(latest, &entry);
    send_and_wait(fixture, latest);
    command(fixture, "DEL " HASH); /* a Redis that lost its tail */
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "HLEN " HASH), 1);
    latest_acknowledged(latest);
    command(fixture, "DEL " HASH);
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "EXISTS " HASH), 0);
    latest_free(latest);
}

static void test_unacknowledged_last_values_are_bounded_in_size(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(INT64_C(1000000));
    static char payload[10000];

    memset(payload, 'x', sizeof(payload) - 1);
    for (int i = 0; i < 1000; i++) {
        char topic[20];

        snprintf(topic, sizeof(topic), "t/%d", i);
        struct entry entry = entry_of(SPOOL "-1", topic, payload);
        latest_add(latest, &entry);
    }
    send_and_wait(fixture, latest);
    int64_t kept = command(fixture, "HLEN " HASH);
    assert_in_range(kept, 300, 430); /* 4 MB of them */
    latest_acknowledged(latest);
    struct entry entry = entry_of(SPOOL "-1", "next", payload);
    latest_add(latest, &entry);
    send_and_wait(fixture, latest);
    assert_int_equal(command(fixture, "HEXISTS " HASH " next"), 1);
    latest_free(latest);
}

static void test_with_last_values_off_nothing_is_sent(void **state)
{
    struct fixture *fixture = *state;
    struct latest *latest = latest_new(0);
    struct entry entry = entry_of(SPOOL "-1", "t", "1");

    assert_null(latest);
    latest_add(latest, &entry);
    send_and_wait(fixture, latest);
    latest_acknowledged(latest);
    assert_int_equal(command(fixture, "EXISTS " HASH), 0);
    latest_free(latest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(test_messages_published_to_everybody_are_kept_as_documents),
        WITH_REDIS(test_each_message_of_a_batch_is_kept),
        WITH_REDIS(test_a_long_payload_is_kept_as_its_length),
        WITH_REDIS(test_last_values_are_sent_again_until_acknowledged),
        WITH_REDIS(test_unacknowledged_last_values_are_bounded_in_size),
        WITH_REDIS(test_with_last_values_off_nothing_is_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
