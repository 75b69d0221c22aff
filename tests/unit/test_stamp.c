#include "tests/unit/stamp_case.h"

static const char *const SERIALIZERS[] = {"php", "json"};

/* What a Symfony worker did to the vectors' message, and when: three retries, then the failure. */
struct history {
    const char *version;
    const char *serializer;
    const char *first_id; /* the stream id of the first delivery */
    const char *last_id;
    const char *uniqid;
    const char *times[4];
    int64_t delays[4];
    const char *unrecoverable_id;
    const char *unrecoverable_time;
};

static const struct history HISTORIES[] = {
    {"6.4",
     "php",
     "1795514166110-0",
     "1795514174133-0",
     "6b055f367fd8d0.86430164",
     {"09:56:06.523320", "09:56:08.128958", "09:56:10.131410", "09:56:14.145378"},
     {1000, 2000, 4000, 0},
     "1795514174648-0",
     "09:56:15.136654"},
    {"7.4",
     "php",
     "1795514190966-0",
     "1795514200808-0",
     "tfGs8wHs6IHu",
     {"09:56:31.337474", "09:56:32.804309", "09:56:35.806525", "09:56:40.820043"},
     {1060, 2082, 4137, 0},
     "1795514201258-0",
     "09:56:41.648868"},
    {"6.4",
     "json",
     "1795514178475-0",
     "1795514186518-0",
     "6b055f42da5d68.12927300",
     {"09:56:18.9", "09:56:20.9", "09:56:22.9", "09:56:26.9"},
     {1000, 2000, 4000, 0},
     "1795514186986-0",
     "09:56:27.0"},
    {"7.4",
     "json",
     "1795514204623-0",
     "1795514213544-0",
     "T48dTRuoJDAW",
     {"09:56:45.0", "09:56:46.0", "09:56:48.0", "09:56:53.0"},
     {901, 1991, 4112, 0},
     "1795514213931-0",
     "09:56:54.0"},
};

#define HISTORIES_LEN LENGTH_OF(HISTORIES)

static int64_t time_us(const char *time_of_day)
{
    struct tm tm = {.tm_year = 2026 - 1900, .tm_mon = 10, .tm_mday = 24};
    char fraction[8] = "000000";
    char digits[8] = "";

    if (sscanf(time_of_day, "%d:%d:%d.%6[0-9]", &tm.tm_hour, &tm.tm_min, &tm.tm_sec, digits) != 4)
        fail_msg("bad time %s", time_of_day);
    memcpy(fraction, digits, strlen(digits));
    return (int64_t)timegm(&tm) * 1000000 + strtol(fraction, NULL, 10);
}

/* 7.4 writes RedeliveryStamp's redeliveredAt before its retryCount; puts the two as 6.4 has them. */
static void order_as_6_4(struct buf *body)
{
    static const char head[] = "s:64:\\\"\\0Symfony\\\\Component\\\\Messenger\\\\Stamp\\\\"
                               "RedeliveryStamp\\0redeliveredAt\\\";";
    struct buf out = {0};
    struct bytes rest = buf_bytes(body);
    const char *date;

    while ((date = memmem(rest.data, rest.len, head, strlen(head))) != NULL) {
        const char *count = memchr(date, '}', (size_t)(rest.data + rest.len - date));

        assert_non_null(count);
        count++;
        const char *end = memmem(count, (size_t)(rest.data + rest.len - count), ";i:", 3);
        assert_non_null(end);
        end = memchr(end + 1, ';', (size_t)(rest.data + rest.len - end - 1));
        assert_non_null(end);
        end++;
        buf_append(&out, (struct bytes){rest.data, (size_t)(date - rest.data)});
        if (bytes_starts_with((struct bytes){count, (size_t)(end - count)}, BYTES("s:61:"))) {
            buf_append(&out, (struct bytes){count, (size_t)(end - count)});
            buf_append(&out, (struct bytes){date, (size_t)(count - date)});
        } else {
            buf_append(&out, (struct bytes){date, (size_t)(end - date)});
        }
        rest = bytes_slice(rest, (size_t)(end - rest.data), rest.len);
    }
    buf_append(&out, rest);
    buf_free(body);
    *body = out;
}

static void assert_row(const struct subject *subject, const struct history *history,
                       const char *name)
{
    struct buf expected = {0};
    char file[64];

    snprintf(file, sizeof(file), "%s.body", name);
    vector_read(&expected, history->version, history->serializer, file);
    if (strcmp(history->version, "7.4") == 0)
        order_as_6_4(&expected);
    assert_bytes(buf_bytes(&subject->body), buf_bytes(&expected));
    snprintf(file, sizeof(file), "%s.headers", name);
    vector_read(&expected, history->version, history->serializer, file);
    assert_bytes(buf_bytes(&subject->headers), buf_bytes(&expected));
    buf_free(&expected);
}

static void test_a_first_retry_is_stamped_as_symfony_stamps_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTORIES_LEN; i++) {
        const struct history *history = &HISTORIES[i];
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};
        struct subject expected = {0};
        struct buf body = {0};
        struct buf member = {0};
        struct buf file = {0};
        struct error err;

        subject_read(&subject, history->version, history->serializer, "fresh-ascii.message");
        failure.stream_id = bytes_of(history->first_id);
        failure.delay_ms = history->delays[0];
        failure.now_us = time_us(history->times[0]);
        subject_stamp(&subject, &failure);
        assert_int_equal(subject.envelope.retry_count, 1);

        subject_read(&expected, history->version, history->serializer, "retry-1.delayed");
        buf_append(&body, expected.envelope.body);
        if (strcmp(history->version, "7.4") == 0)
            order_as_6_4(&body);
        assert_bytes(buf_bytes(&subject.body), buf_bytes(&body));
        assert_bytes(buf_bytes(&subject.headers), expected.envelope.headers);

        /* And the member as a whole, where nothing had to be put in order. */
        assert_int_equal(retry_member_encode(&member, buf_bytes(&subject.body),
                                             buf_bytes(&subject.headers), bytes_of(history->uniqid),
                                             &err),
                         0);
        if (bytes_equal(buf_bytes(&body), expected.envelope.body))
            assert_bytes(buf_bytes(&member), vector_read(&file, history->version,
                                                         history->serializer, "retry-1.delayed"));
        subject_free(&subject);
        subject_free(&expected);
        buf_free(&body);
        buf_free(&member);
        buf_free(&file);
    }
}

static void test_three_retries_and_the_failure_are_stamped_as_symfony_stamps_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTORIES_LEN; i++) {
        const struct history *history = &HISTORIES[i];
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};

        subject_read(&subject, history->version, history->serializer, "fresh-ascii.message");
        for (int attempt = 0; attempt < 4; attempt++) {
            bool last = attempt == 3;

            assert_int_equal(subject.envelope.retry_count, attempt);
            failure.stream_id = bytes_of(last ? history->last_id : "1-0");
            failure.delay_ms = history->delays[attempt];
            failure.retry_count = last ? 0 : attempt + 1;
            failure.now_us = time_us(history->times[attempt]);
            failure.receiver = bytes_of(last ? "async" : NULL);
            subject_stamp(&subject, &failure);
        }
        assert_row(&subject, history, "failed-after-retries");
        subject_free(&subject);
    }
}

static void test_an_unrecoverable_failure_is_stamped_as_symfony_stamps_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < HISTORIES_LEN; i++) {
        const struct history *history = &HISTORIES[i];
        struct subject subject = {0};
        struct stamp_failure failure = {
            .exception_class = BYTES("Symfony\\Component\\Messenger\\Exception\\"
                                     "UnrecoverableMessageHandlingException"),
            .exception_message = BYTES("Payload is not JSON"),
            .stream_id = bytes_of(history->unrecoverable_id),
            .now_us = time_us(history->unrecoverable_time),
            .receiver = BYTES("async"),
        };

        subject_read(&subject, history->version, history->serializer, "fresh-ascii.message");
        subject_stamp(&subject, &failure);
        assert_row(&subject, history, "failed-unrecoverable");
        subject_free(&subject);
    }
}

/* The list of the RedeliveryStamps that a body or headers text has, to see that it is still there. */
static struct bytes redeliveries(struct bytes text)
{
    const char *from = memmem(text.data, text.len, "RedeliveryStamp", 15);

    assert_non_null(from);
    struct bytes rest = bytes_slice(text, (size_t)(from - text.data), text.len);
    const char *list = memmem(rest.data, rest.len, "retryCount", 10);
    assert_non_null(list);
    const char *end = memmem(list, (size_t)(rest.data + rest.len - list), "}}", 2);
    if (end == NULL)
        end = memchr(list, ']', (size_t)(rest.data + rest.len - list));
    assert_non_null(end);
    return (struct bytes){list, (size_t)(end - list)};
}

static void test_stamps_of_symfony_5_4_are_kept_when_stamped_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};
        struct bytes before;

        subject_read(&subject, "5.4", SERIALIZERS[i], "retry-1.delayed");
        before =
            redeliveries(subject.envelope.serializer == ENVELOPE_PHP ? subject.envelope.body
                                                                     : subject.envelope.headers);
        failure.retry_count = 2;
        subject_stamp(&subject, &failure);
        assert_int_equal(subject.envelope.retry_count, 2);
        assert_text(subject.envelope.topic, "sensors/room1/temp");
        assert_text(subject.envelope.payload, "{\"temp\":21.5}");
        struct bytes after = buf_bytes(
            subject.envelope.serializer == ENVELOPE_PHP ? &subject.body : &subject.headers);
        assert_non_null(memmem(after.data, after.len, before.data, before.len));
        subject_free(&subject);
    }
}

/* Rows that failed once can be sent again and fail again. */
static void test_every_failed_vector_can_be_stamped_again(void **state)
{
    static const char *const versions[] = {"5.4", "6.4", "7.4"};
    static const char *const rows[] = {"failed-after-retries", "failed-unrecoverable"};
    char file[64];

    (void)state;
    for (size_t i = 0; i < 12; i++) {
        const char *version = versions[i / 4];
        const char *serializer = SERIALIZERS[i / 2 % 2];
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};

        snprintf(file, sizeof(file), "%s.body", rows[i % 2]);
        vector_read(&subject.body, version, serializer, file);
        snprintf(file, sizeof(file), "%s.headers", rows[i % 2]);
        vector_read(&subject.headers, version, serializer, file);
        subject_decode(&subject);
        failure.retry_count = 5;
        subject_stamp(&subject, &failure);
        assert_int_equal(subject.envelope.retry_count, 5);
        assert_text(subject.envelope.payload, "{\"temp\":21.5}");
        subject_free(&subject);
    }
}

static void test_an_error_is_noted_again_only_if_it_is_another(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};
        const struct buf *where = i == 0 ? &subject.body : &subject.headers;

        subject_read(&subject, "6.4", SERIALIZERS[i], "fresh-ascii.message");
        subject_stamp(&subject, &failure);
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 1);
        failure.exception_message = BYTES("no \"answer\" /\\ \xC3\xA9");
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 2);
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 2);
        failure.exception_code = 7;
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 3);
        failure.exception_class = BYTES("LogicException");
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 4);
        /* The former one comes back: only the last counts. */
        failure.exception_class = REFUSED.exception_class;
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "exceptionMessage"), 5);
        assert_int_equal(occurrences(where, "retryCount"), 7);
        subject_free(&subject);
    }
}

static void test_a_hundred_retries_leave_ten_stamps_of_a_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};
        const struct buf *where = i == 0 ? &subject.body : &subject.headers;

        subject_read(&subject, "6.4", SERIALIZERS[i], "fresh-ascii.message");
        for (int retry = 1; retry <= 100; retry++) {
            failure.retry_count = retry;
            failure.delay_ms = 100000 + retry;
            subject_stamp(&subject, &failure);
            assert_int_equal(subject.envelope.retry_count, retry);
        }
        assert_int_equal(occurrences(where, "retryCount"), 10);
        assert_int_equal(occurrences(where, "delay"), 10);
        assert_int_equal(occurrences(where, "100001"), 1); /* the first */
        assert_int_equal(occurrences(where, "100091"), 0);
        for (int kept = 100092; kept <= 100100; kept++) {
            char delay[8];

            snprintf(delay, sizeof(delay), "%d", kept);
            assert_int_equal(occurrences(where, delay), 1);
        }
        /* Into the failure transport Symfony adds without a limit. */
        failure.receiver = BYTES("async");
        failure.retry_count = 0;
        subject_stamp(&subject, &failure);
        assert_int_equal(occurrences(where, "retryCount"), 11);
        subject_free(&subject);
    }
}

static void encode(struct subject *subject, struct envelope_format format,
                   struct envelope_message message)
{
    struct envelope_template *template;
    struct buf out = {0};
    struct error err;

    format.message_class = BYTES("App\\Message\\MqttMessage");
    format.bus = BYTES("messenger.bus.default");
    template = envelope_template_new(&format);
    envelope_encode(template, &message, SIZE_MAX, &out);
    if (envelope_decode(&subject->envelope, arena_copy(&subject->arena, buf_bytes(&out)),
                        &subject->arena, &err) < 0)
        fail_msg("%s", err.text);
    envelope_template_free(template);
    buf_free(&out);
}

static void test_binary_messages_and_metadata_survive_failures_and_delays(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct envelope_message message = {
            .topic = BYTES("raw/\xFF"),
            .payload = BYTES("\0\xFE'\"\\"),
            .id = BYTES("00ff-7"),
            .received_us = INT64_C(1795514400000001),
        };
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};
        struct buf member = {0};
        struct buf value = {0};
        struct error err;

        encode(&subject,
               (struct envelope_format){.serializer = i == 0 ? ENVELOPE_PHP : ENVELOPE_JSON,
                                        .metadata_headers = true},
               message);
        for (int attempt = 1; attempt <= 3; attempt++) {
            failure.retry_count = attempt;
            subject_stamp(&subject, &failure);
            buf_clear(&member);
            buf_clear(&value);
            assert_int_equal(retry_member_encode(&member, subject.envelope.body,
                                                 subject.envelope.headers, BYTES("u"), &err),
                             0);
            assert_int_equal(
                retry_member_to_value(&value, buf_bytes(&member), true, &subject.arena), 0);
            assert_int_equal(envelope_decode(&subject.envelope,
                                             arena_copy(&subject.arena, buf_bytes(&value)),
                                             &subject.arena, &err),
                             0);
            assert_bytes(subject.envelope.topic, message.topic);
            assert_bytes(subject.envelope.payload, message.payload);
            assert_bytes(subject.envelope.mqtt_id, message.id);
            assert_true(subject.envelope.received_us == message.received_us);
            assert_int_equal(subject.envelope.retry_count, attempt);
        }
        buf_free(&member);
        buf_free(&value);
        subject_free(&subject);
    }
}

static void test_the_entry_is_named_in_the_headers_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct stamp_failure failure = REFUSED;
        struct subject subject = {0};

        subject_read(&subject, "6.4", SERIALIZERS[i], "fresh-ascii.message");
        failure.entry = BYTES("5-0");
        subject_stamp(&subject, &failure);
        failure.entry = BYTES("6-0");
        subject_stamp(&subject, &failure);
        if (i == 0)
            assert_text(buf_bytes(&subject.headers), "{\"X-Mqtt-Entry\":\"6-0\"}");
        assert_int_equal(occurrences(&subject.headers, "X-Mqtt-Entry"), 1);
        assert_int_equal(occurrences(&subject.headers, "\"X-Mqtt-Entry\":\"6-0\""), 1);
        subject_free(&subject);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_first_retry_is_stamped_as_symfony_stamps_it),
        cmocka_unit_test(test_three_retries_and_the_failure_are_stamped_as_symfony_stamps_them),
        cmocka_unit_test(test_an_unrecoverable_failure_is_stamped_as_symfony_stamps_it),
        cmocka_unit_test(test_stamps_of_symfony_5_4_are_kept_when_stamped_again),
        cmocka_unit_test(test_every_failed_vector_can_be_stamped_again),
        cmocka_unit_test(test_a_hundred_retries_leave_ten_stamps_of_a_kind),
        cmocka_unit_test(test_an_error_is_noted_again_only_if_it_is_another),
        cmocka_unit_test(test_binary_messages_and_metadata_survive_failures_and_delays),
        cmocka_unit_test(test_the_entry_is_named_in_the_headers_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
