/* The queue against a real Redis: appending, reading, acknowledging, and a server that fails. */
#include "tests/unit/queue_case.h"

static void on_mark(void *context, int result, struct bytes mark, const struct error *err)
{
    struct queue_answer *answer = context;

    on_done(context, result, err);
    snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(mark));
}

static void test_an_append_adds_all_values_and_moves_the_mark(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};

    assert_int_equal(append(fixture, "", "00ff:3", 3), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 3);
    queue_read_mark(fixture->queue, SPOOL, on_mark, &answer);
    wait_for(fixture->queue, &answer);
    assert_string_equal(answer.text, "00ff:3");
}

static void test_an_append_from_another_mark_is_fenced_and_adds_nothing(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(append(fixture, "", "00ff:3", 3), 0);
    assert_int_equal(append(fixture, "", "00ff:3", 3), -ERR_FENCED);
    assert_int_equal(append(fixture, "00ff:2", "00ff:5", 3), -ERR_FENCED);
    assert_int_equal(command(fixture, "XLEN messages"), 3);
    assert_int_equal(append(fixture, "00ff:3", "00ff:4", 1), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 4);
}

static void test_a_stream_of_another_type_is_refused_and_the_mark_stays(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "SET messages x");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_REFUSED);
    assert_int_equal(command(fixture, "EXISTS {messages}__spool:" SPOOL), 0);
}

static void test_an_append_whose_mark_is_refused_adds_nothing(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "ACL SETUSER default -set");
    assert_int_equal(append(fixture, "", "00ff:3", 3), -ERR_REFUSED);
    command(fixture, "ACL SETUSER default +@all");
    assert_int_equal(command(fixture, "EXISTS messages"), 0);
    assert_int_equal(command(fixture, "EXISTS {messages}__spool:" SPOOL), 0);
    assert_int_equal(append(fixture, "", "00ff:3", 3), 0);
    command(fixture, "ACL SETUSER default -set");
    assert_int_equal(append(fixture, "00ff:3", "00ff:6", 3), -ERR_REFUSED);
    command(fixture, "ACL SETUSER default +@all");
    assert_int_equal(command(fixture, "XLEN messages"), 3);
    assert_int_equal(append(fixture, "00ff:3", "00ff:6", 3), 0);
}

static void test_scripts_that_the_server_forgot_break_the_connection(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};

    command(fixture, "SCRIPT FLUSH");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_UNREACHABLE);
    assert_false(queue_is_connected(fixture->queue));
    queue_connect(fixture->queue, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(append(fixture, "", "00ff:1", 1), 0);
}

static void test_a_refused_append_leaves_the_connection_but_for_a_replica(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "CONFIG SET maxmemory 1");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_UNREACHABLE);
    assert_true(queue_is_connected(fixture->queue));
    command(fixture, "CONFIG SET maxmemory 0");
    command(fixture, "SET messages x");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_REFUSED);
    assert_true(queue_is_connected(fixture->queue));
    command(fixture, "DEL messages");
    command(fixture, "REPLICAOF 127.0.0.1 1");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_UNREACHABLE);
    assert_false(queue_is_connected(fixture->queue));
}

static void test_a_value_that_the_server_never_takes_has_an_error_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct queue_batch batch = {0};
    struct queue_answer answer = {0};

    signal(SIGPIPE, SIG_IGN); /* as our programs do */
    command(fixture, "CONFIG SET proto-max-bulk-len 1048576");
    memset(buf_reserve(&batch.value, 2000000), 'x', 2000000);
    batch.value.len = 2000000;
    queue_batch_add(&batch);
    queue_append(fixture->queue, SPOOL, BYTES_NONE, BYTES("00ff:1"), &batch, 0, on_done, &answer);
    queue_batch_free(&batch);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, -ERR_TOO_LARGE);
    wait_until_closed(fixture->queue); /* the server hangs up behind its answer */
}

static void test_an_append_may_move_the_mark_alone(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(append(fixture, "", "00ff:1", 0), 0);
    assert_int_equal(append(fixture, "00ff:1", "00ff:2", 0), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 0);
}

static struct queue_answer redrive(struct fixture *fixture, const char *id)
{
    struct queue_answer answer = {0};

    queue_redrive(fixture->queue, id, NULL, BYTES("value"), on_number, &answer);
    wait_for(fixture->queue, &answer);
    return answer;
}

static void test_a_redrive_is_fenced_until_the_one_before_it_is_done(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer second = {0};

    queue_redrive(fixture->queue, "two", "one", BYTES("value"), on_number, &second);
    wait_for(fixture->queue, &second);
    assert_int_equal(second.result, -ERR_FENCED);
    assert_int_equal(command(fixture, "EXISTS messages"), 0);
    assert_int_equal(redrive(fixture, "one").number, 1);
    second = (struct queue_answer){0};
    queue_redrive(fixture->queue, "two", "one", BYTES("value"), on_number, &second);
    wait_for(fixture->queue, &second);
    assert_int_equal(second.number, 1);
}

/* Another queue on the same stream, whose DSN bounds it. */
static struct queue_answer redrive_bounded(struct fixture *fixture, const char *id)
{
    struct queue_answer answer = {0}, connected = {0};
    struct settings_transport transport = fixture->transport;
    char dsn[300];
    struct error err;
    struct queue *queue;

    snprintf(dsn, sizeof(dsn), "%s%cstream_max_entries=2", fixture->dsn,
             strchr(fixture->dsn, '?') != NULL ? '&' : '?');
    transport.dsn = dsn;
    assert_int_equal(queue_new(&queue, &transport, &err), 0);
    queue_connect(queue, on_done, &connected);
    wait_for(queue, &connected);
    queue_redrive(queue, id, NULL, BYTES("value"), on_number, &answer);
    wait_for(queue, &answer);
    queue_free(queue);
    return answer;
}

static void test_a_redrive_pushes_out_nothing_that_waits(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "CONFIG SET stream-node-max-entries 1"); /* ~ is exact, then */
    command(fixture, "XADD messages 1-1 message x");
    assert_int_equal(redrive_bounded(fixture, "one").number, 1);
    assert_int_equal(redrive_bounded(fixture, "two").result, -ERR_FULL); /* no group: all wait */
    command(fixture, "XGROUP CREATE messages symfony 0");
    assert_int_equal(redrive_bounded(fixture, "two").result, -ERR_FULL);
    command(fixture, "XREADGROUP GROUP symfony c COUNT 1 STREAMS messages >");
    assert_int_equal(redrive_bounded(fixture, "two").result, -ERR_FULL);
    command(fixture, "XACK messages symfony 1-1"); /* kept: delete_after_ack=0 */
    assert_int_equal(redrive_bounded(fixture, "two").number, 1);
    assert_int_equal(command(fixture, "XLEN messages"), 2);
    assert_int_equal(redrive_bounded(fixture, "three").result, -ERR_FULL);
    assert_int_equal(command(fixture, "EXISTS {messages}__redriven:three"), 0);
}

static void test_a_message_is_redriven_once_under_its_identity(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(redrive(fixture, SPOOL "-7").number, 1);
    assert_int_equal(redrive(fixture, SPOOL "-7").number, 0);
    assert_int_equal(redrive(fixture, SPOOL "-8").number, 1);
    assert_int_equal(command(fixture, "XLEN messages"), 2);
    assert_true(command(fixture, "TTL {messages}__redriven:" SPOOL "-7") > 600000);
}

static void test_a_redrive_that_is_refused_can_be_tried_again(void **state)
{
    struct fixture *fixture = *state;

    command(fixture, "SET messages x");
    assert_int_equal(redrive(fixture, SPOOL "-7").result, -ERR_REFUSED);
    command(fixture, "DEL messages");
    command(fixture, "ACL SETUSER default -set");
    assert_int_equal(redrive(fixture, SPOOL "-7").result, -ERR_REFUSED);
    assert_int_equal(command(fixture, "XLEN messages"), 0);
    command(fixture, "ACL SETUSER default +@all");
    assert_int_equal(redrive(fixture, SPOOL "-7").number, 1);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
}

static void check_at(const char *current, const char *address, const char *password,
                     int64_t dbindex, double timeout_s)
{
    struct settings_transport transport = {.name = (char *)"async", .dsn = (char *)current};
    struct queue *queue;
    struct error err;

    assert_int_equal(queue_new_to_append(&queue, &transport, address, &err), 0);
    const struct dsn_redis *dsn = queue_dsn(queue);
    assert_string_equal(queue_address(queue), address);
    if (dsn->path != NULL)
        assert_string_equal(dsn->path, "/run/r.sock");
    else
        assert_string_equal(dsn->hosts[0].host, "old");
    assert_string_equal(dsn->stream, "a");
    assert_int_equal(dsn->dbindex, dbindex);
    assert_int_equal((int)dsn->timeout_s, (int)timeout_s);
    if (password != NULL)
        assert_string_equal(dsn->password, password);
    else
        assert_null(dsn->password);
    queue_free(queue);
}

static void test_a_previous_address_gets_the_present_credentials(void **state)
{
    (void)state;
    check_at("redis://new:6379/b", "redis://old:6379/a", NULL, 0, 0);
    check_at("redis://:p%2Fw@new/b?timeout=1", "redis://old:6379/a", "p/w", 0, 1);
    check_at("redis://u:p@new:1/b/g?dbindex=2&timeout=1", "redis://old:6379/a", "p", 0, 1);
    check_at("redis://new/b?dbindex=2", "redis://old:6379/a?dbindex=3", NULL, 3, 0);
    check_at("redis://new/b", "redis:///run/r.sock?stream=a&dbindex=1", NULL, 1, 0);
    check_at("redis:///run/r.sock?stream=b", "redis://old:6379/a", NULL, 0, 0);
}

static void test_reading_without_a_group_says_so(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(read_new(fixture, "w-1", 10).result, -ERR_NOT_FOUND);
    make_group(fixture);
    make_group(fixture); /* that is there: fine */
    assert_int_equal(read_new(fixture, "w-1", 10).len, 0);
}

static void test_pending_entries_are_read_without_counting_as_delivered(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:5", 5);
    struct queue_answer first = read_new(fixture, "w-1", 3);
    assert_int_equal(first.len, 3);
    assert_string_equal(first.text, "value 0");
    for (int i = 0; i < 3; i++) {
        struct queue_answer answer = {0};

        queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, SIZE_MAX,
                           on_entries, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.len, 3);
        assert_int_equal(answer.deliveries[0], 1);
        assert_string_equal(answer.text, "value 0");
    }
}

static void test_a_pending_entry_whose_body_is_gone_has_a_result_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};
    char line[100], id[STREAM_ID_TEXT_SIZE];

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    struct queue_answer read = read_new(fixture, "w-1", 2);
    stream_id_format(read.ids[0], id);
    snprintf(line, sizeof(line), "XDEL messages %s", id);
    command(fixture, line);
    queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, SIZE_MAX, on_entries,
                       &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.len, 2);
    assert_true(answer.gone[0]);
    assert_false(answer.gone[1]);
}

static void test_acknowledged_entries_are_deleted_from_stream_and_group(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};

    make_group(fixture);
    append(fixture, "", "00ff:5", 5);
    struct queue_answer read = read_new(fixture, "w-1", 3);
    queue_acknowledge(fixture->queue, read.ids, 3, true, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(command(fixture, "XLEN messages"), 2);
    assert_int_equal(command(fixture, "XPENDING messages symfony - + 10"), 0);
}

static void test_a_lost_group_goes_on_behind_the_last_acknowledged_entry(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer first = {0}, second = {0};
    char dsn[250];

    snprintf(dsn, sizeof(dsn), "%s?delete_after_ack=0", fixture->dsn);
    fixture->transport.dsn = dsn;
    queue_free(fixture->queue);
    connect_queue(fixture, &fixture->queue);
    make_group(fixture);
    append(fixture, "", "00ff:5", 5);
    struct queue_answer read = read_new(fixture, "w-1", 3);
    queue_acknowledge(fixture->queue, &read.ids[1], 2, false, on_done, &first);
    wait_for(fixture->queue, &first);
    queue_acknowledge(fixture->queue, &read.ids[0], 1, false, on_done, &second);
    wait_for(fixture->queue, &second);
    assert_int_equal(second.result, 0);
    assert_int_equal(command(fixture, "XLEN messages"), 5);
    command(fixture, "XGROUP DESTROY messages symfony");
    make_group(fixture);
    struct queue_answer rest = read_new(fixture, "w-1", 10);
    assert_int_equal(rest.len, 2);
    assert_string_equal(rest.text, "value 3");

    /* One in the middle is still pending: it must come again, and those behind it may. */
    struct queue_answer third = {0};
    queue_acknowledge(fixture->queue, &rest.ids[1], 1, false, on_done, &third);
    wait_for(fixture->queue, &third);
    command(fixture, "XGROUP DESTROY messages symfony");
    make_group(fixture);
    assert_string_equal(read_new(fixture, "w-1", 10).text, "value 3");
}

static void test_a_frozen_server_is_given_up_at_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};
    struct queue *queue = NULL;
    char dsn[250];
    struct error err;

    snprintf(dsn, sizeof(dsn), "%s?timeout=0.3", fixture->dsn);
    struct settings_transport transport = {.name = (char *)"async", .dsn = dsn};
    assert_int_equal(queue_new(&queue, &transport, &err), 0);
    kill(fixture->server, SIGSTOP);
    queue_connect(queue, on_done, &answer);
    wait_for(queue, &answer);
    kill(fixture->server, SIGCONT);
    assert_int_equal(answer.result, -ERR_UNREACHABLE);
    assert_non_null(strstr(answer.text, "no answer in time"));
    queue_free(queue);
}

static void test_a_wrong_password_is_reported_with_the_text_of_the_server(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};
    struct queue *queue = NULL;
    struct error err;
    char dsn[250];

    command(fixture, "CONFIG SET requirepass right");
    snprintf(dsn, sizeof(dsn), "redis://wrong@%s", fixture->dsn + strlen("redis://"));
    struct settings_transport transport = {.name = (char *)"async", .dsn = dsn};
    assert_int_equal(queue_new(&queue, &transport, &err), 0);
    queue_connect(queue, on_done, &answer);
    wait_for(queue, &answer);
    assert_int_equal(answer.result, -ERR_REFUSED); /* waiting does not help */
    assert_non_null(strstr(answer.text, "WRONGPASS"));
    assert_null(strstr(answer.text, "wrong@"));
    queue_free(queue);
}

static void test_a_stream_id_is_read_and_written(void **state)
{
    struct stream_id id;
    char text[STREAM_ID_TEXT_SIZE];

    (void)state;
    assert_true(stream_id_parse(BYTES("1795514174648-12"), &id));
    stream_id_format(id, text);
    assert_string_equal(text, "1795514174648-12");
    assert_false(stream_id_parse(BYTES("1795514174648"), &id));
    assert_false(stream_id_parse(BYTES("-1"), &id));
    assert_false(stream_id_parse(BYTES("1-x"), &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(test_an_append_adds_all_values_and_moves_the_mark),
        WITH_REDIS(test_an_append_from_another_mark_is_fenced_and_adds_nothing),
        WITH_REDIS(test_a_stream_of_another_type_is_refused_and_the_mark_stays),
        WITH_REDIS(test_an_append_whose_mark_is_refused_adds_nothing),
        WITH_REDIS(test_scripts_that_the_server_forgot_break_the_connection),
        WITH_REDIS(test_a_refused_append_leaves_the_connection_but_for_a_replica),
        WITH_REDIS(test_a_value_that_the_server_never_takes_has_an_error_of_its_own),
        WITH_REDIS(test_an_append_may_move_the_mark_alone),
        WITH_REDIS(test_a_message_is_redriven_once_under_its_identity),
        WITH_REDIS(test_a_redrive_that_is_refused_can_be_tried_again),
        WITH_REDIS(test_a_redrive_is_fenced_until_the_one_before_it_is_done),
        WITH_REDIS(test_a_redrive_pushes_out_nothing_that_waits),
        cmocka_unit_test(test_a_previous_address_gets_the_present_credentials),
        WITH_REDIS(test_reading_without_a_group_says_so),
        WITH_REDIS(test_pending_entries_are_read_without_counting_as_delivered),
        WITH_REDIS(test_a_pending_entry_whose_body_is_gone_has_a_result_of_its_own),
        WITH_REDIS(test_acknowledged_entries_are_deleted_from_stream_and_group),
        WITH_REDIS(test_a_lost_group_goes_on_behind_the_last_acknowledged_entry),
        WITH_REDIS(test_a_frozen_server_is_given_up_at_the_deadline),
        WITH_REDIS(test_a_wrong_password_is_reported_with_the_text_of_the_server),
        cmocka_unit_test(test_a_stream_id_is_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
