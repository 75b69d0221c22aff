/* The queue against a real Redis: what the scripts promise. */
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/client/queue_group.h"
#include "common/client/redis_connect.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SPOOL "00112233445566778899aabbccddeeff"

struct fixture {
    char dir[64];
    char dsn[200];
    pid_t server;
    struct queue *queue;
    struct redis *redis; /* to look behind the queue's back */
    struct settings_transport transport;
};

/* What a callback was told. */
struct answer {
    int calls;
    int result;
    int64_t number;
    char text[256];
    struct stream_id ids[64];
    struct stream_id next;
    uint32_t deliveries[64];
    bool gone[64];
    size_t len;
};

static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    bool connected = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return connected;
}

static void start_server(struct fixture *fixture)
{
    char path[96];

    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/test-queue-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(path, sizeof(path), "%s/redis.sock", fixture->dir);
    snprintf(fixture->dsn, sizeof(fixture->dsn), "redis://%s", path);
    fixture->server = fork();
    if (fixture->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--dir",
               fixture->dir, "--save", "", "--loglevel", "warning", "--logfile", "redis.log",
               (char *)NULL);
        fprintf(stderr, "redis-server: %s; install it with: make deps\n", strerror(errno));
        _exit(127);
    }
    for (int i = 0; i < 1000 && !answers(path); i++)
        usleep(10000);
    assert_true(answers(path));
}

static void stop_server(struct fixture *fixture)
{
    char command[128];

    kill(fixture->server, SIGKILL);
    waitpid(fixture->server, NULL, 0);
    snprintf(command, sizeof(command), "rm -r %s", fixture->dir);
    assert_int_equal(system(command), 0);
}

static void turn(struct queue *queue)
{
    struct pollfd poll_fd = {.fd = queue_fd(queue), .events = queue_events(queue)};
    int timeout = clock_poll_timeout(queue_deadline_ms(queue), clock_monotonic_ms());

    if (poll(&poll_fd, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout) <= 0)
        poll_fd.revents = 0;
    queue_process(queue, poll_fd.revents);
}

static void wait_for(struct queue *queue, const struct answer *answer)
{
    int64_t deadline = clock_monotonic_ms() + 10000;

    while (answer->calls == 0 && clock_monotonic_ms() < deadline)
        turn(queue);
    assert_int_equal(answer->calls, 1);
}

static void on_done(void *context, int result, const struct error *err)
{
    struct answer *answer = context;

    answer->calls++;
    answer->result = result;
    snprintf(answer->text, sizeof(answer->text), "%s", err != NULL ? err->text : "");
}

static void on_number(void *context, int result, int64_t number, const struct error *err)
{
    on_done(context, result, err);
    ((struct answer *)context)->number = number;
}

static void on_mark(void *context, int result, struct bytes mark, const struct error *err)
{
    struct answer *answer = context;

    on_done(context, result, err);
    snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(mark));
}

static void on_entries(void *context, int result, const struct queue_entry *entries, size_t len,
                       const struct error *err)
{
    struct answer *answer = context;

    on_done(context, result, err);
    answer->len = len;
    for (size_t i = 0; i < len && i < 64; i++) {
        answer->ids[i] = entries[i].id;
        answer->deliveries[i] = entries[i].deliveries;
        answer->gone[i] = entries[i].value.data == NULL;
    }
    if (len > 0)
        snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(entries[0].value));
}

static void on_ids(void *context, int result, const struct stream_id *ids, size_t len,
                   const struct error *err)
{
    struct answer *answer = context;

    on_done(context, result, err);
    answer->len = len;
    for (size_t i = 0; i < len && i < 64; i++)
        answer->ids[i] = ids[i];
}

static void on_claimed(void *context, int result, const struct stream_id *ids, size_t len,
                       struct stream_id next, const struct error *err)
{
    struct answer *answer = context;

    on_ids(context, result, ids, len, err);
    answer->next = next;
}

static void on_names(void *context, int result, const struct bytes *names, size_t len,
                     const struct error *err)
{
    struct answer *answer = context;

    on_done(context, result, err);
    answer->len = len;
    if (len > 0)
        snprintf(answer->text, sizeof(answer->text), "%.*s", BYTES_ARG(names[0]));
}

static void connect_queue(struct fixture *fixture, struct queue **queue)
{
    struct answer answer = {0};
    struct error err;

    assert_int_equal(queue_new(queue, &fixture->transport, &err), 0);
    queue_connect(*queue, on_done, &answer);
    wait_for(*queue, &answer);
    assert_int_equal(answer.result, 0);
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    struct dsn_redis dsn;
    struct error err;

    start_server(fixture);
    fixture->transport = (struct settings_transport){.name = (char *)"async", .dsn = fixture->dsn};
    fixture->redis = redis_new("test", 5000, NULL, NULL);
    assert_int_equal(dsn_redis_parse(&dsn, fixture->dsn, &err), 0);
    assert_int_equal(redis_open_dsn(fixture->redis, &dsn, &err), 0);
    dsn_redis_free(&dsn);
    connect_queue(fixture, &fixture->queue);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    queue_free(fixture->queue);
    redis_free(fixture->redis);
    stop_server(fixture);
    free(fixture);
    return 0;
}

/* A command of words, its answer as a number (an integer, or a string's or list's length). */
static int64_t command(struct fixture *fixture, const char *line)
{
    char *copy = xstrdup(line);
    struct bytes words[16];
    size_t count = 0;
    char *rest = NULL;
    struct error err = {0};

    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        words[count++] = bytes_of(word);
    redisReply *reply = redis_call(fixture->redis, words, count, &err);
    free(copy);
    if (reply == NULL)
        fail_msg("%s: %s", line, err.text);
    int64_t number = reply->type == REDIS_REPLY_INTEGER ? reply->integer
                     : reply->type == REDIS_REPLY_ARRAY ? (int64_t)reply->elements
                                                        : (int64_t)reply->len;
    redis_reply_free(reply);
    return number;
}

static int append(struct fixture *fixture, const char *expected, const char *next, int values)
{
    struct queue_batch batch = {0};
    struct answer answer = {0};

    for (int i = 0; i < values; i++) {
        buf_clear(&batch.value);
        buf_printf(&batch.value, "value %d", i);
        queue_batch_add(&batch);
    }
    queue_append(fixture->queue, SPOOL, bytes_of(expected), bytes_of(next), &batch, on_done,
                 &answer);
    queue_batch_free(&batch);
    wait_for(fixture->queue, &answer);
    return answer.result;
}

static void test_an_append_adds_all_values_and_moves_the_mark(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};

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

static void test_scripts_that_the_server_forgot_break_the_connection(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};

    command(fixture, "SCRIPT FLUSH");
    assert_int_equal(append(fixture, "", "00ff:1", 1), -ERR_UNREACHABLE);
    assert_false(queue_is_connected(fixture->queue));
    queue_connect(fixture->queue, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(append(fixture, "", "00ff:1", 1), 0);
}

static void make_group(struct fixture *fixture)
{
    struct answer answer = {0};

    queue_create_group(fixture->queue, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
}

static struct answer read_new(struct fixture *fixture, const char *consumer, size_t count)
{
    struct answer answer = {0};

    queue_read_new(fixture->queue, consumer, count, 0, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    return answer;
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
    struct answer first = read_new(fixture, "w-1", 3);
    assert_int_equal(first.len, 3);
    assert_string_equal(first.text, "value 0");
    for (int i = 0; i < 3; i++) {
        struct answer answer = {0};

        queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, on_entries,
                           &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.len, 3);
        assert_int_equal(answer.deliveries[0], 1);
        assert_string_equal(answer.text, "value 0");
    }
}

static void test_a_pending_entry_whose_body_is_gone_is_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};
    char line[100], id[STREAM_ID_TEXT_SIZE];

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    struct answer read = read_new(fixture, "w-1", 2);
    stream_id_format(read.ids[0], id);
    snprintf(line, sizeof(line), "XDEL messages %s", id);
    command(fixture, line);
    queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, on_entries, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.len, 2);
    assert_true(answer.gone[0]);
    assert_false(answer.gone[1]);
}

static void test_an_acknowledged_entry_is_gone(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};

    make_group(fixture);
    append(fixture, "", "00ff:5", 5);
    struct answer read = read_new(fixture, "w-1", 3);
    queue_acknowledge(fixture->queue, read.ids, 3, true, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(command(fixture, "XLEN messages"), 2);
    assert_int_equal(command(fixture, "XPENDING messages symfony - + 10"), 0);
}

static void
test_a_lost_group_goes_on_behind_the_last_acknowledged_where_entries_are_kept(void **state)
{
    struct fixture *fixture = *state;
    struct answer first = {0}, second = {0};
    char dsn[250];

    snprintf(dsn, sizeof(dsn), "%s?delete_after_ack=0", fixture->dsn);
    fixture->transport.dsn = dsn;
    queue_free(fixture->queue);
    connect_queue(fixture, &fixture->queue);
    make_group(fixture);
    append(fixture, "", "00ff:5", 5);
    struct answer read = read_new(fixture, "w-1", 3);
    queue_acknowledge(fixture->queue, &read.ids[1], 2, false, on_done, &first);
    wait_for(fixture->queue, &first);
    queue_acknowledge(fixture->queue, &read.ids[0], 1, false, on_done, &second);
    wait_for(fixture->queue, &second);
    assert_int_equal(second.result, 0);
    assert_int_equal(command(fixture, "XLEN messages"), 5);
    command(fixture, "XGROUP DESTROY messages symfony");
    make_group(fixture);
    struct answer rest = read_new(fixture, "w-1", 10);
    assert_int_equal(rest.len, 2);
    assert_string_equal(rest.text, "value 3");

    /* One in the middle is still pending: it must come again, and those behind it may. */
    struct answer third = {0};
    queue_acknowledge(fixture->queue, &rest.ids[1], 1, false, on_done, &third);
    wait_for(fixture->queue, &third);
    command(fixture, "XGROUP DESTROY messages symfony");
    make_group(fixture);
    assert_string_equal(read_new(fixture, "w-1", 10).text, "value 3");
}

static int64_t retry(struct fixture *fixture, const char *consumer, struct stream_id id)
{
    struct answer answer = {0};

    queue_retry(fixture->queue, consumer, id, 1000, BYTES("member"), on_number, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer.number;
}

static void test_a_retry_moves_the_entry_in_one_step_and_only_its_owners(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct answer read = read_new(fixture, "w-1", 1);
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
    struct answer answer = {0};

    queue_move(fixture->queue, BYTES("member"), BYTES("value"), on_number, &answer);
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
        struct answer answer = {0};

        command(fixture, "ZADD messages__queue 1000 member");
        forbid(fixture, COMMANDS[i]);
        queue_move(fixture->queue, BYTES("member"), BYTES("value"), on_number, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.result, -ERR_REFUSED);
        command(fixture, "ACL SETUSER default +@all");
        assert_int_equal(command(fixture, "ZCARD messages__queue"), 1);
        assert_int_equal(command(fixture, "XLEN messages"), 0);
    }
}

static void test_a_retry_that_is_refused_half_way_leaves_the_entry_pending(void **state)
{
    static const char *const COMMANDS[] = {"zadd", "xack"};
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct answer read = read_new(fixture, "w-1", 1);
    for (size_t i = 0; i < 2; i++) {
        struct answer answer = {0};

        forbid(fixture, COMMANDS[i]);
        queue_retry(fixture->queue, "w-1", read.ids[0], 1000, BYTES("member"), on_number, &answer);
        wait_for(fixture->queue, &answer);
        assert_int_equal(answer.result, -ERR_REFUSED);
        command(fixture, "ACL SETUSER default +@all");
        assert_int_equal(command(fixture, "ZCARD messages__queue"), 0);
        assert_int_equal(command(fixture, "XPENDING messages symfony - + 10"), 1);
    }
}

static void test_an_acknowledgement_that_is_refused_deletes_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};

    make_group(fixture);
    append(fixture, "", "00ff:1", 1);
    struct answer read = read_new(fixture, "w-1", 1);
    forbid(fixture, "xack");
    queue_acknowledge(fixture->queue, read.ids, 1, true, on_done, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, -ERR_REFUSED);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
}

static void test_a_due_member_is_moved_once(void **state)
{
    struct fixture *fixture = *state;
    struct answer due = {0}, later = {0}, next = {0};

    command(fixture, "ZADD messages__queue 1000 member");
    command(fixture, "ZADD messages__queue 9000 later");
    queue_read_due(fixture->queue, 1000, 10, on_names, &due);
    wait_for(fixture->queue, &due);
    assert_int_equal(due.len, 1);
    assert_string_equal(due.text, "member");
    assert_int_equal(move(fixture), 1);
    assert_int_equal(move(fixture), 0);
    assert_int_equal(command(fixture, "XLEN messages"), 1);
    queue_read_due(fixture->queue, 1000, 10, on_names, &later);
    wait_for(fixture->queue, &later);
    assert_int_equal(later.len, 0);
    queue_next_due(fixture->queue, on_number, &next);
    wait_for(fixture->queue, &next);
    assert_int_equal(next.number, 9000);
}

static int64_t take(struct fixture *fixture, const char *instance, const char *token, bool first)
{
    struct queue_reader reader = {.consumer = "w-1", .instance = instance, .token = token};
    struct answer answer = {0};

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
    struct answer renewed = {0}, released = {0};

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

static struct answer adopt(struct fixture *fixture, const char *me, const char *name)
{
    struct answer answer = {0};

    queue_adopt(fixture->queue, me, bytes_of(name), 2, on_ids, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer;
}

static void test_entries_are_adopted_only_when_no_lease_stands(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:3", 3);
    assert_int_equal(take_lease(fixture, "here", "here:0"), 1);
    struct answer read = read_new(fixture, "w-1", 3);
    assert_int_equal(read.len, 3);
    assert_int_equal(adopt(fixture, "w-2", "w-1").len, 0);
    command(fixture, "DEL {messages}__owner:symfony:w-1");
    struct answer adopted = adopt(fixture, "w-2", "w-1");
    assert_int_equal(adopted.len, 2);
    assert_int_equal(stream_id_compare(adopted.ids[0], read.ids[0]), 0);
    assert_int_equal(adopt(fixture, "w-2", "w-1").len, 1);
    assert_int_equal(command(fixture, "SCARD {messages}__consumers:symfony"), 1);
    assert_int_equal(adopt(fixture, "w-2", "w-1").len, 0);
    assert_int_equal(command(fixture, "SCARD {messages}__consumers:symfony"), 0);
    assert_int_equal(command(fixture, "XPENDING messages symfony - + 10 w-2"), 3);
}

static struct answer claim(struct fixture *fixture, const char *me, int64_t idle_ms,
                           struct stream_id after, size_t count)
{
    struct answer answer = {0};

    queue_claim_idle(fixture->queue, me, idle_ms, after, count, on_claimed, &answer);
    wait_for(fixture->queue, &answer);
    assert_int_equal(answer.result, 0);
    return answer;
}

static void test_idle_entries_of_others_are_claimed_and_ones_own_are_not(void **state)
{
    struct fixture *fixture = *state;
    struct stream_id start = {0, 0};

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    read_new(fixture, "w-1", 2);
    assert_int_equal(claim(fixture, "w-2", 3600000, start, 10).len, 0);
    assert_int_equal(claim(fixture, "w-1", 0, start, 10).len, 0);
    assert_int_equal(claim(fixture, "w-2", 0, start, 1).len, 1);
    assert_int_equal(claim(fixture, "w-2", 0, start, 10).len, 1);
}

static void test_ones_own_idle_entries_do_not_hide_those_of_others_behind_them(void **state)
{
    struct fixture *fixture = *state;

    make_group(fixture);
    append(fixture, "", "00ff:301", 301);
    struct answer own = read_new(fixture, "w-2", 300);
    struct answer others = read_new(fixture, "w-1", 1);
    assert_int_equal(own.len, 300);
    struct answer first = claim(fixture, "w-2", 0, (struct stream_id){0, 0}, 10);
    assert_int_equal(first.len, 0);
    assert_true(stream_id_compare(first.next, (struct stream_id){0, 0}) > 0);
    struct answer second = claim(fixture, "w-2", 0, first.next, 10);
    assert_int_equal(second.len, 1);
    assert_int_equal(stream_id_compare(second.ids[0], others.ids[0]), 0);
    assert_int_equal(stream_id_compare(second.next, (struct stream_id){0, 0}), 0);
}

static void test_a_charge_sets_the_delivery_count_of_one_entry(void **state)
{
    struct fixture *fixture = *state;
    struct answer charged = {0}, read = {0};

    make_group(fixture);
    append(fixture, "", "00ff:2", 2);
    struct answer first = read_new(fixture, "w-1", 2);
    queue_charge(fixture->queue, "w-1", first.ids[1], 4, on_done, &charged);
    wait_for(fixture->queue, &charged);
    queue_read_pending(fixture->queue, "w-1", (struct stream_id){0, 0}, 10, on_entries, &read);
    wait_for(fixture->queue, &read);
    assert_int_equal(read.deliveries[0], 1);
    assert_int_equal(read.deliveries[1], 4);
}

static void test_a_frozen_server_is_given_up_at_the_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};
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

static void test_a_wrong_password_is_said_in_the_servers_words(void **state)
{
    struct fixture *fixture = *state;
    struct answer answer = {0};
    struct queue *queue = NULL;
    struct error err;
    char dsn[250];

    command(fixture, "CONFIG SET requirepass right");
    snprintf(dsn, sizeof(dsn), "redis://wrong@%s", fixture->dsn + strlen("redis://"));
    struct settings_transport transport = {.name = (char *)"async", .dsn = dsn};
    assert_int_equal(queue_new(&queue, &transport, &err), 0);
    queue_connect(queue, on_done, &answer);
    wait_for(queue, &answer);
    assert_true(answer.result < 0);
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
    assert_true(stream_id_compare((struct stream_id){1, 9}, (struct stream_id){2, 0}) < 0);
}

#define WITH_REDIS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_REDIS(test_an_append_adds_all_values_and_moves_the_mark),
        WITH_REDIS(test_an_append_from_another_mark_is_fenced_and_adds_nothing),
        WITH_REDIS(test_a_stream_of_another_type_is_refused_and_the_mark_stays),
        WITH_REDIS(test_scripts_that_the_server_forgot_break_the_connection),
        WITH_REDIS(test_reading_without_a_group_says_so),
        WITH_REDIS(test_pending_entries_are_read_without_counting_as_delivered),
        WITH_REDIS(test_a_pending_entry_whose_body_is_gone_is_told_apart),
        WITH_REDIS(test_an_acknowledged_entry_is_gone),
        WITH_REDIS(test_a_lost_group_goes_on_behind_the_last_acknowledged_where_entries_are_kept),
        WITH_REDIS(test_a_retry_moves_the_entry_in_one_step_and_only_its_owners),
        WITH_REDIS(test_a_move_that_is_refused_half_way_leaves_the_member_where_it_was),
        WITH_REDIS(test_a_retry_that_is_refused_half_way_leaves_the_entry_pending),
        WITH_REDIS(test_an_acknowledgement_that_is_refused_deletes_nothing),
        WITH_REDIS(test_a_due_member_is_moved_once),
        WITH_REDIS(test_a_lease_is_one_instances_until_it_is_given_back),
        WITH_REDIS(test_entries_are_adopted_only_when_no_lease_stands),
        WITH_REDIS(test_idle_entries_of_others_are_claimed_and_ones_own_are_not),
        WITH_REDIS(test_ones_own_idle_entries_do_not_hide_those_of_others_behind_them),
        WITH_REDIS(test_a_charge_sets_the_delivery_count_of_one_entry),
        WITH_REDIS(test_a_frozen_server_is_given_up_at_the_deadline),
        WITH_REDIS(test_a_wrong_password_is_said_in_the_servers_words),
        cmocka_unit_test(test_a_stream_id_is_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
