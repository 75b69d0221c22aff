/* What the worker asks of its consumer group, against a real Redis: retries, delays, leases, take-overs, counts. */
#include "tests/unit/queue_case.h"

#include <inttypes.h>

static void on_idle_taken(void *context, int result, const struct queue_entry *entries, size_t len,
                          struct stream_id next, const struct error *err)
{
    struct queue_answer *answer = context;

    on_entries(context, result, entries, len, err);
    answer->next = next;
}

static void on_names(void *context, int result, const struct bytes *names, size_t len,
                     const struct error *err)
{
    struct queue_answer *answer = context;

    on_done(context, result, err);
    answer->len = len;
    if (len > 0)
        snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(names[0]));
}

static int64_t retry(struct fixture *fixture, const char *consumer, struct stream_id id)
{
    struct queue_answer answer = {0};

    queue_retry(fixture->queue, consumer, id, 1000, BYTES("member"), on_number, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer.number;
}

static bool is_same_id(struct stream_id a, struct stream_id b)
{
    return a.ms == b.ms && a.sequence == b.sequence;
}

static void test_a_retry_moves_the_entry_in_one_step_and_only_its_owners(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct queue_answer read = read_new(fixture, "w-1", 1);
    assert_int_equal(retry(fixture, "w-2", read.ids[0]), 0);
    assert_int_equal(command(fixture, "ZCARD messages__queue"), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    assert_int_equal(retry(fixture, "w-1", read.ids[0]), 1);
    assert_int_equal(command(fixture, "ZCARD messages__queue"), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 0);
    assert_int_equal(retry(fixture, "w-1", read.ids[0]), 0);
    assert_int_equal(command(fixture, "ZCARD messages__queue"), 1);
}

static int64_t move(struct fixture *fixture)
{
    struct queue_answer answer = {0};

    queue_move(fixture->queue, BYTES("member"), BYTES("value"), 1000, on_number, &answer);
    wait_for(fixture->queue, &answer);
    return answer.number;
}

/* A user who may do all but one command. */
static void forbid(struct fixture *fixture, const char *name)
{
    char line[100];

    snprintf(line, sizeof(line), "ACL SETUSER default -%s", name);
    command(fixture, line);
}

static void test_a_move_that_is_refused_half_way_leaves_the_member_where_it_was(void **state)
{
    static const char *const COMMANDS[] = {"xadd", "zrem"};
    struct fixture *fixture = *state;

    make_group(fixture);
    for (size_t i = 0; i < 2; i++) {
        struct queue_answer answer = {0};

        command(fixture, "ZADD messages__queue 1000 member");
        forbid(fixture, COMMANDS[i]);
        queue_move(fixture->queue, BYTES("member"), BYTES("value"), 1000, on_number, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.result, -ERR_REFUSED);
        command(fixture, "ACL SETUSER default +@all");
        assert_int_equal(command(fixture, "ZCARD messages__queue"), 1);
        assert_int_equal(command(fixture, "XLEN messages"), 0);
    }
}

/* Symfony 6.4.50 claims a member so before it adds it to the stream. */
static void test_a_member_that_php_has_put_off_is_not_moved(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    command(fixture, "ZADD messages__queue 1001 member");
    assert_int_equal(move(fixture), 0);
    assert_int_equal(command(fixture, "ZCARD messages__queue"), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 0);
    command(fixture, "ZADD messages__queue 1000 member");
    assert_int_equal(move(fixture), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
}

static void test_a_retry_that_is_refused_half_way_leaves_the_entry_pending(void **state)
{
    static const char *const COMMANDS[] = {"zadd", "xack", "xdel"};
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct queue_answer read = read_new(fixture, "w-1", 1);
    for (size_t i = 0; i < 3; i++) {
        struct queue_answer answer = {0};

        forbid(fixture, COMMANDS[i]);
        queue_retry(fixture->queue, "w-1", read.ids[0], 1000, BYTES("member"), on_number, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.result, -ERR_REFUSED);
        command(fixture, "ACL SETUSER default +@all");
        assert_int_equal(command(fixture, "ZCARD messages__queue"), 0);
        assert_int_equal(command(fixture, "XPENDING messages symfony - + 10"), 1);
    }
}

static void test_an_acknowledgement_refused_half_way_leaves_the_entry_pending(void **state)
{
    static const char *const COMMANDS[] = {"xack", "xdel"};
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct queue_answer read = read_new(fixture, "w-1", 1);
    for (size_t i = 0; i < 2; i++) {
        struct queue_answer answer = {0};

        forbid(fixture, COMMANDS[i]);
        queue_acknowledge(fixture->queue, read.ids, 1, true, on_done, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.result, -ERR_REFUSED);
        command(fixture, "ACL SETUSER default +@all");
        assert_int_equal(command(fixture, "XLEN messages"), 1);
        assert_int_equal(command(fixture, "XPENDING messages symfony - + 10"), 1);
    }
}

static void test_a_due_member_is_moved_once(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer due = {0}, later = {0}, next = {0};

    command(fixture, "ZADD messages__queue 1000 member");
    command(fixture, "ZADD messages__queue 9000 later");
    queue_read_due(fixture->queue, 1000, 10, SIZE_MAX, on_names, &due);
    wait_for(fixture->queue, &due);
    assert_int_equal(due.len, 1);
    assert_string_equal(due.text, "member");
    assert_int_equal(move(fixture), 1);
    assert_int_equal(move(fixture), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    queue_read_due(fixture->queue, 1000, 10, SIZE_MAX, on_names, &later);
    wait_for(fixture->queue, &later);
    assert_int_equal(later.len, 0);
    queue_next_due(fixture->queue, on_number, &next);
    wait_for(fixture->queue, &next);
    assert_int_equal(next.number, 9000);
}

static int64_t take(struct fixture *fixture, const char *instance, const char *token, bool first)
{
    struct queue_reader reader = {.consumer = "w-1", .instance = instance, .token = token};
    struct queue_answer answer = {0};

    queue_take_lease(fixture->queue, &reader, first, on_number, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer.number;
}

static int64_t take_lease(struct fixture *fixture, const char *instance, const char *token)
{
    return take(fixture, instance, token, true);
}

static void test_a_lease_is_one_instances_until_it_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    struct queue_reader reader = {.consumer = "w-1", .instance = "here", .token = "here:1"};
    struct queue_answer renewed = {0}, released = {0};

    make_group(fixture);
    assert_int_equal(take_lease(fixture, "here", "here:0"), 1);
    assert_int_equal(take_lease(fixture, "there", "there:0"), 0);
    assert_int_equal(take_lease(fixture, "her", "her:0"), 0);
    assert_int_equal(take(fixture, "here", "here:1", false), 0);
    assert_int_equal(take_lease(fixture, "here", "here:1"), 2);
    assert_int_equal(take(fixture, "here", "here:1", false), 2);
    queue_renew_lease(fixture->queue, &reader, on_number, &renewed);
    wait_for(fixture->queue, &renewed);
    assert_int_equal(renewed.number, 1);
    queue_release_lease(fixture->queue, &reader, on_done, &released);
    wait_for(fixture->queue, &released);
    assert_int_equal(take_lease(fixture, "there", "there:0"), 1);
}

static void test_scripts_that_the_server_forgot_are_loaded_again(void **state)
{
    struct fixture *fixture = *state;
    struct queue_reader reader = {.consumer = "w-1", .instance = "here", .token = "here:0"};
    struct queue_answer first = {0}, second = {0}, renewed = {0}, taken = {0};

    make_group(fixture);
    append(fixture, "", "00ff:3", 3);
    struct queue_answer read = read_new(fixture, "w-1", 3);
    assert_int_equal(take_lease(fixture, "here", "here:0"), 1);
    command(fixture, "SCRIPT FLUSH");
    queue_acknowledge(fixture->queue, read.ids, 1, true, on_done, &first);
    queue_acknowledge(fixture->queue, read.ids + 1, 1, true, on_done, &second);
    queue_renew_lease(fixture->queue, &reader, on_number, &renewed);
    queue_take_over_dead(fixture->queue, "w-2", BYTES("w-1"), 2, on_entries, &taken);
    wait_for(fixture->queue, &taken);
    assert_int_equal(first.result, 0);
    assert_int_equal(second.result, 0);
    assert_int_equal(renewed.number, 1);
    assert_int_equal(taken.result, 0);
    assert_int_equal(first.calls + second.calls + renewed.calls + taken.calls, 4);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    assert_true(queue_is_connected(fixture->queue));
}

static void test_scripts_that_can_not_be_loaded_again_are_not_tried_for_ever(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer read, answer = {0};

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    read = read_new(fixture, "w-1", 1);
    command(fixture, "SCRIPT FLUSH");
    command(fixture, "ACL SETUSER default -script");
    queue_acknowledge(fixture->queue, read.ids, 1, true, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, -ERR_UNREACHABLE);
    assert_false(queue_is_connected(fixture->queue));
    command(fixture, "ACL SETUSER default +@all");
}

static struct queue_answer take_over_dead(struct fixture *fixture, const char *me, const char *name)
{
    struct queue_answer answer = {0};

    queue_take_over_dead(fixture->queue, me, bytes_of(name), 2, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer;
}

static void test_entries_are_taken_over_only_when_no_lease_stands(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:3", 3);
    assert_int_equal(take_lease(fixture, "here", "here:0"), 1);
    struct queue_answer read = read_new(fixture, "w-1", 3);
    assert_int_equal(read.len, 3);
    assert_int_equal(take_over_dead(fixture, "w-2", "w-1").len, 0);
    command(fixture, "DEL {messages}__owner:symfony:w-1");
    struct queue_answer taken = take_over_dead(fixture, "w-2", "w-1");
    assert_int_equal(taken.len, 2);
    assert_true(is_same_id(taken.ids[0], read.ids[0]));
    assert_int_equal(take_over_dead(fixture, "w-2", "w-1").len, 1);
    assert_int_equal(command(fixture, "SCARD {messages}__consumers:symfony"), 1);
    assert_int_equal(take_over_dead(fixture, "w-2", "w-1").len, 0);
    assert_int_equal(command(fixture, "SCARD {messages}__consumers:symfony"), 0);
    assert_int_equal(command(fixture, "XPENDING messages symfony - + 10 w-2"), 3);
}

static struct queue_answer take_over_idle(struct fixture *fixture, const char *me, int64_t idle_ms,
                                          struct stream_id after, size_t count)
{
    struct queue_answer answer = {0};

    queue_take_over_idle(fixture->queue, me, idle_ms, after, count, on_idle_taken, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer;
}

static void test_idle_entries_of_others_are_taken_over_and_ones_own_are_not(void **state)
{
    struct fixture *fixture = *state;
    struct stream_id start = {0, 0};

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    read_new(fixture, "w-1", 2);
    assert_int_equal(take_over_idle(fixture, "w-2", 3600000, start, 10).len, 0);
    assert_int_equal(take_over_idle(fixture, "w-1", 0, start, 10).len, 0);
    assert_int_equal(take_over_idle(fixture, "w-2", 0, start, 1).len, 1);
    assert_int_equal(take_over_idle(fixture, "w-2", 0, start, 10).len, 1);
}

static void test_a_takeover_gets_past_a_page_of_own_idle_entries(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:301", 301);
    struct queue_answer own = read_new(fixture, "w-2", 300);
    struct queue_answer others = read_new(fixture, "w-1", 1);
    assert_int_equal(own.len, 300);
    struct queue_answer first = take_over_idle(fixture, "w-2", 0, (struct stream_id){0, 0}, 10);
    assert_int_equal(first.len, 0);
    assert_true(first.next.ms > 0);
    struct queue_answer second = take_over_idle(fixture, "w-2", 0, first.next, 10);
    assert_int_equal(second.len, 1);
    assert_true(is_same_id(second.ids[0], others.ids[0]));
    assert_true(is_same_id(second.next, (struct stream_id){0, 0}));
}

static void test_the_delivery_count_of_one_entry_is_set(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer set = {0}, read = {0};

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    struct queue_answer first = read_new(fixture, "w-1", 2);
    queue_claim(fixture->queue, "w-1", &first.ids[1], 1, 4, on_done, &set);
    wait_for(fixture->queue, &set);
    queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, SIZE_MAX, on_entries,
                       &read);
    wait_for(fixture->queue, &read);
    assert_int_equal(read.deliveries[0], 1);
    assert_int_equal(read.deliveries[1], 4);
}

static struct queue_answer read_all_pending(struct fixture *fixture, const char *consumer)
{
    struct queue_answer answer = {0};

    queue_read_pending(fixture->queue, consumer, (struct stream_id){0, 0}, 10, SIZE_MAX, on_entries,
                       &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer;
}

/* Reads so many entries as w-1, and gives all but the first back. */
static void give_back(struct fixture *fixture, size_t count)
{
    struct queue_answer done = {0};

    make_group(fixture);
    append(fixture, "", "00ff:9", (int)count);
    struct queue_answer read = read_new(fixture, "w-1", count);
    queue_claim(fixture->queue, "w-1", read.ids + 1, count - 1, 0, on_done, &done);
    wait_for(fixture->queue, &done);
    assert_int_equal(done.result, 0);
}

static void assert_deliveries(struct queue_answer answer, const uint32_t *deliveries, size_t len)
{
    assert_int_equal(answer.len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(answer.deliveries[i], deliveries[i]);
}

static void test_entries_given_back_are_new_until_they_are_counted(void **state)
{
    give_back(*state, 3);
    assert_deliveries(read_all_pending(*state, "w-1"), (const uint32_t[]){1, 0, 0}, 3);
    assert_deliveries(read_all_pending(*state, "w-1"), (const uint32_t[]){1, 0, 0}, 3);
}

static void test_entries_given_back_are_new_for_who_takes_them_over(void **state)
{
    give_back(*state, 5);
    assert_deliveries(take_over_dead(*state, "w-2", "w-1"), (const uint32_t[]){1, 0}, 2);
    assert_deliveries(take_over_idle(*state, "w-2", 0, (struct stream_id){0, 0}, 2),
                      (const uint32_t[]){0, 0}, 2);
    assert_deliveries(take_over_dead(*state, "w-2", "w-1"), (const uint32_t[]){0}, 1);
    assert_deliveries(read_all_pending(*state, "w-2"), (const uint32_t[]){1, 1, 1, 1, 1}, 5);
}

static void test_a_redis_above_its_memory_takes_nothing_new_and_can_be_emptied(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    struct queue_answer read = read_new(fixture, "w-1", 2);
    command(fixture, "ZADD messages__queue 1000 member");
    command(fixture, "CONFIG SET maxmemory 1");
    assert_true(append(fixture, "00ff:2", "00ff:3", 1) < 0);
    assert_int_equal(take_lease(fixture, "here", "here:0"), 1);
    assert_int_equal(move(fixture), 1);
    assert_int_equal(retry(fixture, "w-1", read.ids[0]), 1);
    queue_acknowledge(fixture->queue, &read.ids[1], 1, true, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    command(fixture, "XGROUP DESTROY messages symfony");
    make_group(fixture);
    assert_int_equal(read_new(fixture, "w-1", 2).len, 1);
}

/* So many entries, each with a value of 100 bytes. */
static void add_large(struct fixture *fixture, int count)
{
    for (int i = 0; i < count; i++) {
        char line[200];

        snprintf(line, sizeof(line), "XADD messages * message %d%099d", i, 0);
        command(fixture, line);
    }
}

static void assert_left_out(const struct queue_answer *answer, size_t len, size_t kept)
{
    assert_int_equal(answer->result, 0);
    assert_int_equal(answer->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(answer->gone[i], i >= kept);
}

static struct queue_answer read_ids(struct fixture *fixture, const struct queue_answer *read,
                                    size_t bytes)
{
    struct queue_answer answer = {0};

    queue_read_ids(fixture->queue, read->ids, read->len, bytes, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    return answer;
}

static struct queue_answer read_pending(struct fixture *fixture, size_t bytes)
{
    struct queue_answer answer = {0};

    queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, bytes, on_entries,
                       &answer);
    wait_for(fixture->queue, &answer);
    return answer;
}

static void test_values_beyond_the_bytes_of_a_reading_are_left_out(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer read = {0};

    make_group(fixture);
    add_large(fixture, 4);
    queue_read_new(fixture->queue, "w-1", 10, 250, 0, on_entries, &read);
    wait_for(fixture->queue, &read);
    assert_left_out(&read, 4, 2);
    struct queue_answer pending = read_pending(fixture, 250);
    assert_left_out(&pending, 4, 2);
    struct queue_answer again = read_ids(fixture, &read, 350);
    assert_left_out(&again, 4, 3);
    again = read_ids(fixture, &read, 400);
    assert_left_out(&again, 4, 4);
}

static void test_the_first_value_of_a_reading_is_kept_whatever_its_size(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer read = {0};

    make_group(fixture);
    add_large(fixture, 3);
    queue_read_new(fixture->queue, "w-1", 10, 1, 0, on_entries, &read);
    wait_for(fixture->queue, &read);
    assert_left_out(&read, 3, 1);
    struct queue_answer pending = read_pending(fixture, 1);
    assert_left_out(&pending, 3, 1);
    struct queue_answer again = read_ids(fixture, &read, 1);
    assert_left_out(&again, 3, 1);
}

static void test_a_value_behind_one_that_was_left_out_is_left_out_too(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer read = {0};
    char line[300];

    make_group(fixture);
    add_large(fixture, 1);
    snprintf(line, sizeof(line), "XADD messages * message %0200d", 0);
    command(fixture, line);
    add_large(fixture, 1);
    queue_read_new(fixture->queue, "w-1", 10, 250, 0, on_entries, &read);
    wait_for(fixture->queue, &read);
    assert_left_out(&read, 3, 1);
}

static void test_fields_of_one_entry_are_kept_or_left_out_together(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer read = {0};
    char line[500];

    make_group(fixture);
    snprintf(line, sizeof(line), "XADD messages * a %0100d b %0100d", 0, 0);
    for (int i = 0; i < 3; i++)
        command(fixture, line);
    queue_read_new(fixture->queue, "w-1", 10, 350, 0, on_entries, &read);
    wait_for(fixture->queue, &read);
    assert_left_out(&read, 3, 1);
    assert_true(bytes_starts_with(bytes_of(read.text), BYTES("a:4:{i:0;s:1:\"a\";i:1;s:100:\"0")));
    struct queue_answer pending = read_pending(fixture, 1);
    assert_left_out(&pending, 3, 1);
    struct queue_answer again = read_ids(fixture, &read, 400);
    assert_left_out(&again, 3, 2);
}

static void test_a_message_that_looks_like_a_list_of_fields_is_put_into_one(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    command(fixture, "XADD messages * message a:0:{}");
    struct queue_answer read = read_new(fixture, "w-1", 2);
    assert_string_equal(read.text, "a:2:{i:0;s:7:\"message\";i:1;s:6:\"a:0:{}\";}");
}

static void on_members(void *context, int result, const struct bytes *members, size_t len,
                       const struct error *err)
{
    struct queue_answer *answer = context;

    on_names(context, result, members, len, err);
    for (size_t i = 0; i < len; i++)
        answer->gone[i] = members[i].data == NULL;
}

static void test_due_members_beyond_the_bytes_are_left_out_but_for_the_first(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < 4; i++) {
        char line[200];

        snprintf(line, sizeof(line), "ZADD messages__queue %d %d%099d", 1000 + i, i, 0);
        command(fixture, line);
    }
    for (size_t kept = 1; kept <= 4; kept++) {
        struct queue_answer due = {0};

        queue_read_due(fixture->queue, 5000, 10, kept * 100, on_members, &due);
        wait_for(fixture->queue, &due);
        assert_left_out(&due, 4, kept);
    }
    struct queue_answer due = {0};
    queue_read_due(fixture->queue, 5000, 10, 1, on_members, &due);
    wait_for(fixture->queue, &due);
    assert_left_out(&due, 4, 1);
}

static void on_swept(void *context, int result, struct bytes until, int64_t removed,
                     const struct error *err)
{
    struct queue_answer *answer = context;

    on_number(context, result, removed, err);
    snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(until));
}

/* One look; until: what the last one gave, and what this one gives. Returns how many went. */
static int64_t sweep(struct fixture *fixture, char until[QUEUE_UNTIL_SIZE])
{
    struct queue_answer answer = {0};

    queue_sweep(fixture->queue, until, on_swept, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    snprintf(until, QUEUE_UNTIL_SIZE, "%s", answer.text);
    return answer.number;
}

/* A PHP worker that dies between the two commands of its acknowledgement. */
static void acknowledge_only(struct fixture *fixture, struct stream_id id)
{
    char line[100];

    snprintf(line, sizeof(line), "XACK messages symfony %" PRIu64 "-%" PRIu64, id.ms, id.sequence);
    assert_int_equal(command(fixture, line), 1);
}

static void test_sweep_removes_entries_left_acknowledged_at_the_second_look(void **state)
{
    struct fixture *fixture = *state;
    char until[QUEUE_UNTIL_SIZE] = "";

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct queue_answer before = read_new(fixture, "consumer", 1);
    assert_int_equal(sweep(fixture, until), 0); /* from now on the keys are in our care */
    acknowledge_only(fixture, before.ids[0]);
    append(fixture, "00ff:1", "00ff:2", 4);
    struct queue_answer read = read_new(fixture, "consumer", 3);
    acknowledge_only(fixture, read.ids[1]);
    assert_int_equal(sweep(fixture, until), 0); /* another one is still pending before it */
    acknowledge_only(fixture, read.ids[0]);
    assert_int_equal(sweep(fixture, until), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 5);
    assert_int_equal(sweep(fixture, until), 2);
    assert_int_equal(sweep(fixture, until), 0);
    /* Delivered before the first look; pending; not delivered. */
    assert_int_equal(command(fixture, "XLEN messages"), 3);
}

static void test_sweep_keeps_entries_that_the_group_may_read_again(void **state)
{
    struct fixture *fixture = *state;
    char until[QUEUE_UNTIL_SIZE] = "";

    make_group(fixture);
    sweep(fixture, until);
    append(fixture, "", "00ff:1", 2);
    struct queue_answer read = read_new(fixture, "consumer", 2);
    acknowledge_only(fixture, read.ids[0]);
    acknowledge_only(fixture, read.ids[1]);
    sweep(fixture, until);
    command(fixture, "XGROUP SETID messages symfony 0");
    assert_int_equal(sweep(fixture, until), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 2);
}

/* One more entry that was acknowledged and is in the stream, and a look that finds it. */
static void leave_acknowledged(struct fixture *fixture, const char *before, const char *mark,
                               char until[QUEUE_UNTIL_SIZE])
{
    append(fixture, before, mark, 1);
    struct queue_answer read = read_new(fixture, "consumer", 1);
    acknowledge_only(fixture, read.ids[0]);
    sweep(fixture, until);
}

static void test_sweep_removes_nothing_while_another_group_exists(void **state)
{
    struct fixture *fixture = *state;
    char until[QUEUE_UNTIL_SIZE] = "";

    make_group(fixture);
    sweep(fixture, until);
    leave_acknowledged(fixture, "", "00ff:1", until);
    command(fixture, "XGROUP CREATE messages another 0");
    assert_int_equal(sweep(fixture, until), 0);
    assert_string_equal(until, "");
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    command(fixture, "XGROUP DESTROY messages another");
    (void)read_new(fixture, "consumer", 1);
    sweep(fixture, until); /* from now on again */
    leave_acknowledged(fixture, "00ff:1", "00ff:2", until);
    assert_int_equal(sweep(fixture, until), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
}

/* Ours deletes names with nothing pending, whenever a worker ends: no entry is dropped so. */
static void test_the_sweep_goes_on_when_a_worker_of_ours_ends(void **state)
{
    struct fixture *fixture = *state;
    struct queue_answer answer = {0};
    char until[QUEUE_UNTIL_SIZE] = "";

    make_group(fixture);
    sweep(fixture, until);
    leave_acknowledged(fixture, "", "00ff:1", until);
    const struct queue_reader reader = {.consumer = "w-1", .instance = "i", .token = "i:t"};
    assert_int_equal(take_lease(fixture, reader.instance, reader.token), 1);
    queue_release_lease(fixture->queue, &reader, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(sweep(fixture, until), 1);
    command(fixture, "SADD {messages}__consumers:symfony gone");
    answer = (struct queue_answer){0};
    queue_take_over_dead(fixture->queue, "w-1", BYTES("gone"), 10, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    leave_acknowledged(fixture, "00ff:1", "00ff:2", until);
    assert_int_equal(sweep(fixture, until), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 0);
}

/* As PHP's workers do whenever they start. */
static void create_group_that_is_there(struct fixture *fixture)
{
    const struct bytes words[] = {BYTES("XGROUP"), BYTES("CREATE"), BYTES("messages"),
                                  BYTES("symfony"), BYTES("0")};
    struct error err;

    assert_null(redis_call(fixture->redis, words, 5, &err));
    assert_non_null(strstr(err.text, "BUSYGROUP"));
}

/* Of the group's entries: delivered, not pending, and nobody has handled them. */
static void test_sweep_keeps_entries_skipped_or_dropped_by_an_operator(void **state)
{
    struct fixture *fixture = *state;
    char until[QUEUE_UNTIL_SIZE] = "";

    make_group(fixture);
    sweep(fixture, until);
    append(fixture, "", "00ff:1", 3);
    command(fixture, "XGROUP SETID messages symfony $");
    append(fixture, "00ff:1", "00ff:2", 2);
    read_new(fixture, "consumer", 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sweep(fixture, until), 0);
    command(fixture, "XGROUP DELCONSUMER messages symfony consumer");
    append(fixture, "00ff:2", "00ff:3", 1);
    struct queue_answer read = read_new(fixture, "consumer", 1); /* of that name, as before */
    for (int i = 0; i < 3; i++)
        assert_int_equal(sweep(fixture, until), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 6);
    acknowledge_only(fixture, read.ids[0]);
    sweep(fixture, until);
    assert_int_equal(sweep(fixture, until),
                     0); /* it was delivered before the look that began anew */
    append(fixture, "00ff:3", "00ff:4", 1);
    read = read_new(fixture, "consumer", 1);
    create_group_that_is_there(fixture); /* that skips nothing */
    make_group(fixture);
    acknowledge_only(fixture, read.ids[0]);
    sweep(fixture, until);
    assert_int_equal(sweep(fixture, until), 1);
    assert_int_equal(command(fixture, "XLEN messages"), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(test_a_retry_moves_the_entry_in_one_step_and_only_its_owners),
        WITH_REDIS(test_a_move_that_is_refused_half_way_leaves_the_member_where_it_was),
        WITH_REDIS(test_a_member_that_php_has_put_off_is_not_moved),
        WITH_REDIS(test_a_retry_that_is_refused_half_way_leaves_the_entry_pending),
        WITH_REDIS(test_an_acknowledgement_refused_half_way_leaves_the_entry_pending),
        WITH_REDIS(test_sweep_removes_entries_left_acknowledged_at_the_second_look),
        WITH_REDIS(test_sweep_keeps_entries_that_the_group_may_read_again),
        WITH_REDIS(test_sweep_removes_nothing_while_another_group_exists),
        WITH_REDIS(test_sweep_keeps_entries_skipped_or_dropped_by_an_operator),
        WITH_REDIS(test_the_sweep_goes_on_when_a_worker_of_ours_ends),
        WITH_REDIS(test_scripts_that_the_server_forgot_are_loaded_again),
        WITH_REDIS(test_scripts_that_can_not_be_loaded_again_are_not_tried_for_ever),
        WITH_REDIS(test_a_due_member_is_moved_once),
        WITH_REDIS(test_a_lease_is_one_instances_until_it_is_given_back),
        WITH_REDIS(test_entries_are_taken_over_only_when_no_lease_stands),
        WITH_REDIS(test_idle_entries_of_others_are_taken_over_and_ones_own_are_not),
        WITH_REDIS(test_a_takeover_gets_past_a_page_of_own_idle_entries),
        WITH_REDIS(test_a_redis_above_its_memory_takes_nothing_new_and_can_be_emptied),
        WITH_REDIS(test_the_delivery_count_of_one_entry_is_set),
        WITH_REDIS(test_entries_given_back_are_new_until_they_are_counted),
        WITH_REDIS(test_entries_given_back_are_new_for_who_takes_them_over),
        WITH_REDIS(test_values_beyond_the_bytes_of_a_reading_are_left_out),
        WITH_REDIS(test_fields_of_one_entry_are_kept_or_left_out_together),
        WITH_REDIS(test_a_message_that_looks_like_a_list_of_fields_is_put_into_one),
        WITH_REDIS(test_the_first_value_of_a_reading_is_kept_whatever_its_size),
        WITH_REDIS(test_a_value_behind_one_that_was_left_out_is_left_out_too),
        WITH_REDIS(test_due_members_beyond_the_bytes_are_left_out_but_for_the_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
