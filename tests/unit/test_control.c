/* The control socket's requests, and what hostile ones come to. */
#include "supervisor/control.h"

#include "common/base/alloc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int parse(const char *text, struct control_request *request)
{
    struct error err = {0};
    int result = control_parse((struct bytes){text, strlen(text)}, request, &err);

    if (result < 0)
        assert_true(err.text[0] != '\0');
    return result;
}

static void test_every_verb_is_understood(void **test)
{
    static const char *const VERBS[CONTROL_VERBS_LEN] = {"status",  "health", "start",  "stop",
                                                         "restart", "scale",  "reload", "events",
                                                         "log",     "signal", "upgrade"};
    struct control_request request;

    (void)test;
    for (size_t i = 0; i < CONTROL_VERBS_LEN; i++) {
        char *text = xasprintf("{\"verb\":\"%s\",\"count\":3,\"signal\":\"TERM\"}", VERBS[i]);

        assert_int_equal(parse(text, &request), 0);
        assert_int_equal(request.verb, i);
        assert_string_equal(request.target, "");
        free(text);
    }
}

static void test_target_and_count_are_read(void **test)
{
    struct control_request request;

    (void)test;
    assert_int_equal(parse("{\"target\":\"worker:2\",\"verb\":\"restart\",\"x\":[]}", &request), 0);
    assert_string_equal(request.target, "worker:2");
    assert_int_equal(parse("{\"verb\":\"signal\",\"signal\":\"SIGUSR1\"}", &request), 0);
    assert_int_equal(request.signal, SIGUSR1);
    assert_int_equal(parse("{\"verb\":\"signal\",\"signal\":\"9\"}", &request), 0);
    assert_int_equal(request.signal, SIGKILL);
    assert_true(parse("{\"verb\":\"signal\",\"signal\":\"0\"}", &request) < 0);
    assert_true(parse("{\"verb\":\"signal\"}", &request) < 0);
    assert_true(parse("{\"verb\":\"status\",\"bridge\":7}", &request) < 0);
    assert_int_equal(parse("{\"verb\":\"status\",\"bridge\":\"/a\"}", &request), 0);
    assert_string_equal(request.bridge, "/a");
    assert_int_equal(parse(" {\"verb\":\"scale\",\"count\":17} ", &request), 0);
    assert_int_equal(request.count, 17);
    assert_int_equal(parse("{\"verb\":\"stop\",\"target\":null}", &request), 0);
    assert_string_equal(request.target, "");
    assert_true(request.wait);
    assert_int_equal(parse("{\"verb\":\"stop\",\"wait\":false}", &request), 0);
    assert_false(request.wait);
}

static void test_an_invalid_request_is_refused_with_a_reason(void **test)
{
    static const char *const BAD[] = {
        "",
        " ",
        "status",
        "null",
        "[]",
        "\"status\"",
        "{}",
        "{\"verb\":1}",
        "{\"verb\":\"status\"} x",
        "{\"verb\":\"status\"",
        "{\"verb\":\"explode\"}",
        "{\"verb\":\"STATUS\"}",
        "{\"Verb\":\"status\"}",
        "{\"verb\":\"stop\",\"target\":\"\"}",
        "{\"verb\":\"stop\",\"target\":7}",
        "{\"verb\":\"stop\",\"target\":[\"worker\"]}",
        "{\"verb\":\"scale\"}",
        "{\"verb\":\"scale\",\"count\":\"3\"}",
        "{\"verb\":\"scale\",\"count\":-1}",
        "{\"verb\":\"scale\",\"count\":2.5}",
        "{\"verb\":\"scale\",\"count\":1e300}",
        "{\"verb\":\"scale\",\"count\":null}",
    };
    struct control_request request;

    (void)test;
    for (size_t i = 0; i < LENGTH_OF(BAD); i++)
        if (parse(BAD[i], &request) == 0)
            fail_msg("taken: %s", BAD[i]);
}

static void test_a_target_that_does_not_fit_is_refused_not_cut(void **test)
{
    struct control_request request;
    char name[CONTROL_TARGET_SIZE + 1];

    (void)test;
    memset(name, 'a', sizeof(name));
    name[CONTROL_TARGET_SIZE] = '\0';
    char *text = xasprintf("{\"verb\":\"stop\",\"target\":\"%s\"}", name);
    assert_true(parse(text, &request) < 0);
    free(text);
    name[CONTROL_TARGET_SIZE - 1] = '\0';
    text = xasprintf("{\"verb\":\"stop\",\"target\":\"%s\"}", name);
    assert_int_equal(parse(text, &request), 0);
    assert_string_equal(request.target, name);
    free(text);
}

static void test_a_hidden_nul_is_refused(void **test)
{
    static const char TEXT[] = "{\"verb\":\"status\"}\0{\"verb\":\"stop\"}";
    struct control_request request;
    struct error err = {0};

    (void)test;
    assert_true(control_parse((struct bytes){TEXT, sizeof(TEXT) - 1}, &request, &err) < 0);
}

static void test_deep_nesting_is_refused_without_harm(void **test)
{
    struct control_request request;
    char *deep = xmalloc(CONTROL_PACKET_MAX + 1);

    (void)test;
    memset(deep, '[', CONTROL_PACKET_MAX);
    deep[CONTROL_PACKET_MAX] = '\0';
    assert_true(parse(deep, &request) < 0);
    free(deep);
}

/* The socket itself, without a loop: control_process is what the loop would call. */
struct server {
    char dir[32];
    char path[64];
    struct control *control;
    int answered;
    bool done;     /* what clients wait for */
    size_t length; /* of a text in the answer */
};

static cJSON *answer(void *context, struct control_request *request)
{
    struct server *server = context;

    request->deadline_ms = 7777;
    if (request->wait && request->verb == CONTROL_STOP && !server->done)
        return NULL;
    server->answered++;
    cJSON *reply = cJSON_CreateObject();
    cJSON_AddNumberToObject(reply, "verb", request->verb);
    if (server->length > 0) {
        char *text = xmalloc(server->length + 1);

        memset(text, 'x', server->length);
        text[server->length] = '\0';
        cJSON_AddStringToObject(reply, "text", text);
        free(text);
    }
    return reply;
}

static int set_up(void **test)
{
    struct server *server = xcalloc(1, sizeof(*server));
    struct error err = {0};

    strcpy(server->dir, "/tmp/test-control-XXXXXX");
    assert_non_null(mkdtemp(server->dir));
    snprintf(server->path, sizeof(server->path), "%s/socket", server->dir);
    assert_int_equal(control_open(&server->control, server->path, -1, answer, server, &err), 0);
    *test = server;
    return 0;
}

static int tear_down(void **test)
{
    struct server *server = *test;

    control_close(server->control);
    assert_int_equal(rmdir(server->dir), 0);
    free(server);
    return 0;
}

static int client(const struct server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void process(struct server *server, int times, int64_t now_ms)
{
    for (int i = 0; i < times; i++)
        control_process(server->control, now_ms);
}

static void test_the_socket_is_its_owners_alone(void **test)
{
    struct server *server = *test;
    struct stat info;

    assert_int_equal(stat(server->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void ask(const struct server *server, int fd, const char *request)
{
    (void)server;
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
}

static void test_a_packet_gets_its_answer_and_then_the_end(void **test)
{
    struct server *server = *test;
    int fd = client(server);
    char reply[100] = "";

    ask(server, fd, "{\"verb\":\"reload\"}");
    process(server, 5, 0);
    assert_int_equal(server->answered, 1);
    assert_true(recv(fd, reply, sizeof(reply) - 1, 0) > 0);
    assert_string_equal(reply, "{\"verb\":6}");
    assert_int_equal(recv(fd, reply, sizeof(reply), 0), 0);
    close(fd);
}

static void test_a_long_answer_comes_as_memory_that_nobody_can_change(void **test)
{
    struct server *server = *test;
    int fd = client(server);
    char note[100];
    char rights[CMSG_SPACE(sizeof(int))];
    struct iovec part = {note, sizeof(note)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof(rights)};
    struct stat info;
    int memory;

    server->length = 3000000;
    ask(server, fd, "{\"verb\":\"status\"}");
    process(server, 5, 0);
    assert_true(recvmsg(fd, &message, 0) > 0);
    assert_non_null(CMSG_FIRSTHDR(&message));
    memcpy(&memory, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(memory));
    assert_int_equal(fstat(memory, &info), 0);
    assert_int_equal(info.st_size, strlen("{\"verb\":0,\"text\":\"\"}") + server->length);
    assert_int_equal(write(memory, "x", 1), -1);
    assert_int_equal(ftruncate(memory, 0), -1);
    close(memory);
    close(fd);
}

static void test_a_waiting_client_is_answered_when_its_command_is_done(void **test)
{
    struct server *server = *test;
    int fd = client(server);
    char reply[100];

    ask(server, fd, "{\"verb\":\"stop\"}");
    process(server, 6, 0);
    control_check(server->control);
    process(server, 6, 100 * CONTROL_TIMEOUT_MS);
    assert_int_equal(recv(fd, reply, sizeof(reply), 0), -1); /* still open */
    assert_int_equal(control_deadline(server->control), 7777);
    control_retire(server->control);
    assert_int_equal(access(server->path, F_OK), -1);
    server->done = true;
    control_check(server->control);
    assert_true(recv(fd, reply, sizeof(reply), 0) > 0);
    assert_int_equal(recv(fd, reply, sizeof(reply), 0), 0);
    assert_int_equal(control_deadline(server->control), -1);
    close(fd);
}

static void test_a_client_that_goes_away_while_it_waits_is_forgotten(void **test)
{
    struct server *server = *test;
    int fd = client(server);

    ask(server, fd, "{\"verb\":\"stop\"}");
    process(server, 6, 0);
    assert_int_equal(control_deadline(server->control), 7777);
    close(fd);
    process(server, 6, 0);
    assert_int_equal(control_deadline(server->control), -1);
    server->done = true;
    control_check(server->control);
    assert_int_equal(server->answered, 0);
}

static void test_a_second_request_ends_the_connection(void **test)
{
    struct server *server = *test;
    int fd = client(server);

    ask(server, fd, "{\"verb\":\"stop\"}");
    process(server, 6, 0);
    ask(server, fd, "{\"verb\":\"stop\"}");
    process(server, 6, 0);
    assert_int_equal(control_deadline(server->control), -1);
    close(fd);
}

static void test_waiting_commands_are_limited_but_stop_is_always_accepted(void **test)
{
    struct server *server = *test;
    int fds[CONTROL_WAITING_MAX + 2];
    char reply[200] = "";

    for (int i = 0; i < CONTROL_WAITING_MAX + 2; i++) {
        fds[i] = client(server);
        process(server, 2, 0);
        ask(server, fds[i],
            i <= CONTROL_WAITING_MAX ? "{\"verb\":\"stop\",\"target\":\"worker\"}"
                                     : "{\"verb\":\"stop\"}");
        process(server, 2, 0);
    }
    assert_true(recv(fds[CONTROL_WAITING_MAX], reply, sizeof(reply) - 1, 0) > 0);
    assert_non_null(strstr(reply, "too many commands wait"));
    assert_int_equal(recv(fds[CONTROL_WAITING_MAX + 1], reply, sizeof(reply), 0), -1);
    int quick = client(server);
    process(server, 2, 0);
    ask(server, quick, "{\"verb\":\"status\"}");
    process(server, 2, 0);
    assert_true(recv(quick, reply, sizeof(reply), 0) > 0);
    close(quick);
    for (int i = 0; i < CONTROL_WAITING_MAX + 2; i++)
        close(fds[i]);
    process(server, 2 * CONTROL_CLIENTS_MAX, 0);
}

static void test_a_client_that_sends_nothing_is_dropped_at_its_deadline(void **test)
{
    struct server *server = *test;
    int fd = client(server);
    char byte;

    process(server, 3, 1000);
    assert_int_equal(control_deadline(server->control), 1000 + CONTROL_TIMEOUT_MS);
    process(server, 1, 1000 + CONTROL_TIMEOUT_MS - 1);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    process(server, 1, 1000 + CONTROL_TIMEOUT_MS);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    assert_int_equal(control_deadline(server->control), -1);
    close(fd);
}

static void test_a_huge_request_is_refused_not_kept(void **test)
{
    struct server *server = *test;
    int fd = client(server);
    char *bytes = xcalloc(1, CONTROL_PACKET_MAX + 1);
    char reply[200] = "";

    memset(bytes, ' ', CONTROL_PACKET_MAX + 1);
    assert_int_equal(send(fd, bytes, CONTROL_PACKET_MAX + 1, 0), CONTROL_PACKET_MAX + 1);
    process(server, 3, 0);
    assert_true(recv(fd, reply, sizeof(reply) - 1, 0) > 0);
    assert_non_null(strstr(reply, "64 KB"));
    assert_int_equal(server->answered, 0);
    free(bytes);
    close(fd);
}

static void test_more_clients_than_room_push_out_the_oldest(void **test)
{
    struct server *server = *test;
    int fds[CONTROL_CLIENTS_MAX + 1];
    char byte;

    for (int i = 0; i <= CONTROL_CLIENTS_MAX; i++) {
        fds[i] = client(server);
        process(server, 2, 0);
    }
    assert_int_equal(recv(fds[0], &byte, 1, 0), 0);
    assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
    for (int i = 0; i <= CONTROL_CLIENTS_MAX; i++)
        close(fds[i]);
    process(server, 2 * CONTROL_CLIENTS_MAX, 0);
    assert_int_equal(control_deadline(server->control), -1);
}

static void test_a_client_that_waits_for_the_stop_is_not_pushed_out(void **test)
{
    struct server *server = *test;
    int fds[CONTROL_CLIENTS_MAX + 2];
    char bytes[64];

    for (int i = 0; i < CONTROL_CLIENTS_MAX + 2; i++) {
        fds[i] = client(server);
        process(server, 2, 0);
        if (i >= CONTROL_CLIENTS_MAX) /* there is no room, and nobody to push out */
            continue;
        ask(server, fds[i], "{\"verb\":\"stop\"}");
        process(server, 4, 0);
    }
    assert_int_equal(recv(fds[0], bytes, 1, 0), -1);
    assert_int_equal(recv(fds[CONTROL_CLIENTS_MAX], bytes, 1, 0), 0);
    /* Of those that do not wait for it the oldest goes. */
    close(fds[1]);
    close(fds[2]);
    process(server, 4, 0);
    fds[1] = client(server);
    fds[2] = client(server);
    process(server, 4, 0);
    int last = client(server);
    process(server, 2, 0);
    assert_int_equal(recv(fds[1], bytes, 1, 0), 0);
    assert_int_equal(recv(fds[2], bytes, 1, 0), -1);
    assert_int_equal(recv(fds[0], bytes, 1, 0), -1);
    close(last);
    for (int i = 0; i < CONTROL_CLIENTS_MAX + 2; i++)
        close(fds[i]);
    process(server, 2 * CONTROL_CLIENTS_MAX, 0);
}

static void test_clients_that_wait_for_the_stop_do_not_block_status(void **test)
{
    struct server *server = *test;
    int fds[CONTROL_CLIENTS_MAX + 3];
    char reply[200] = "";

    for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++) {
        fds[i] = client(server);
        process(server, 2, 0);
        ask(server, fds[i],
            i <= CONTROL_CLIENTS_MAX ? "{\"verb\":\"stop\"}" : "{\"verb\":\"status\"}");
        process(server, 4, 0);
    }
    assert_true(recv(fds[CONTROL_CLIENTS_MAX], reply, sizeof(reply) - 1, 0) > 0);
    assert_non_null(strstr(reply, "the service is stopping, but too many commands wait"));
    for (int i = CONTROL_CLIENTS_MAX + 1; i < CONTROL_CLIENTS_MAX + 3; i++)
        assert_true(recv(fds[i], reply, sizeof(reply), 0) > 0);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        assert_int_equal(recv(fds[i], reply, sizeof(reply), 0), -1);
    for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++)
        close(fds[i]);
    process(server, 2 * CONTROL_CLIENTS_MAX, 0);
}

static void test_a_socket_that_somebody_listens_on_is_not_taken(void **test)
{
    struct server *server = *test;
    struct control *second = NULL;
    struct error err = {0};

    assert_int_equal(control_open(&second, server->path, -1, answer, server, &err), -ERR_LOCKED);
    assert_null(second);
}

static void test_a_socket_file_that_was_left_behind_is_replaced(void **test)
{
    struct server *server = *test;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct control *second = NULL;
    struct error err = {0};
    char *path = xasprintf("%s/left", server->dir);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    assert_int_equal(control_open(&second, path, -1, answer, server, &err), 0);
    control_close(second);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
}

static void test_a_file_that_is_no_socket_is_refused_and_left(void **test)
{
    const struct server *server = *test;
    struct control *second = NULL;
    struct error err = {0};
    char *path = xasprintf("%s/file", server->dir);

    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(control_open(&second, path, -1, answer, NULL, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "is not a socket: name another path"));
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void test_a_path_that_is_too_long_is_in_the_error(void **test)
{
    struct control *control = NULL;
    struct error err = {0};
    char path[200];

    (void)test;
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(control_open(&control, path, -1, answer, NULL, &err), -ERR_USAGE);
    assert_non_null(strstr(err.text, "socket"));
}

#define WITH_SOCKET(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_verb_is_understood),
        cmocka_unit_test(test_target_and_count_are_read),
        cmocka_unit_test(test_an_invalid_request_is_refused_with_a_reason),
        cmocka_unit_test(test_a_target_that_does_not_fit_is_refused_not_cut),
        cmocka_unit_test(test_a_hidden_nul_is_refused),
        cmocka_unit_test(test_deep_nesting_is_refused_without_harm),
        WITH_SOCKET(test_the_socket_is_its_owners_alone),
        WITH_SOCKET(test_a_packet_gets_its_answer_and_then_the_end),
        WITH_SOCKET(test_a_long_answer_comes_as_memory_that_nobody_can_change),
        WITH_SOCKET(test_a_waiting_client_is_answered_when_its_command_is_done),
        WITH_SOCKET(test_a_client_that_goes_away_while_it_waits_is_forgotten),
        WITH_SOCKET(test_a_second_request_ends_the_connection),
        WITH_SOCKET(test_waiting_commands_are_limited_but_stop_is_always_accepted),
        WITH_SOCKET(test_a_client_that_sends_nothing_is_dropped_at_its_deadline),
        WITH_SOCKET(test_a_huge_request_is_refused_not_kept),
        WITH_SOCKET(test_more_clients_than_room_push_out_the_oldest),
        WITH_SOCKET(test_a_client_that_waits_for_the_stop_is_not_pushed_out),
        WITH_SOCKET(test_clients_that_wait_for_the_stop_do_not_block_status),
        WITH_SOCKET(test_a_socket_that_somebody_listens_on_is_not_taken),
        WITH_SOCKET(test_a_socket_file_that_was_left_behind_is_replaced),
        WITH_SOCKET(test_a_file_that_is_no_socket_is_refused_and_left),
        cmocka_unit_test(test_a_path_that_is_too_long_is_in_the_error),
    };

    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
