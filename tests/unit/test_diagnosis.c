#include "consumer/mqtt/diagnosis.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* A port of loopback that is bound, and listens if wanted. */
static int bind_port(bool listens, char place[64])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    if (listens)
        assert_int_equal(listen(fd, 1), 0);
    snprintf(place, 64, "127.0.0.1:%d", ntohs(address.sin_port));
    return fd;
}

static struct endpoint make_failed(struct server *server, const char *target)
{
    struct endpoint failed = {.server = server, .slot = 3, .place = "name:1"};

    snprintf(failed.target, sizeof(failed.target), "%s", target);
    return failed;
}

static struct diagnosis_answer wait_answer(struct diagnosis *diagnosis)
{
    struct diagnosis_answer answer = {0};
    struct pollfd wait = {.events = POLLIN};

    wait.fd = diagnosis_fd(diagnosis);
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_true(diagnosis_take(diagnosis, 0, &answer));
    return answer;
}

static struct diagnosis_answer ask(struct server *server, const char *target)
{
    struct diagnosis *diagnosis = diagnosis_new();
    struct endpoint failed = make_failed(server, target);

    assert_int_equal(diagnosis_fd(diagnosis), -1);
    diagnosis_ask(diagnosis, &failed);
    struct diagnosis_answer answer = wait_answer(diagnosis);
    assert_false(diagnosis_take(diagnosis, 0, &answer)); /* each answer is given once */
    diagnosis_free(diagnosis);
    return answer;
}

static void test_a_closed_port_is_said_and_an_open_one_counts_as_a_hang_up(void **state)
{
    struct server server = {.wants_5 = true};
    char closed[64], open[64];
    int closed_fd = bind_port(false, closed), open_fd = bind_port(true, open);

    (void)state;
    assert_non_null(strstr(ask(&server, open).text, "does it want TLS"));
    assert_int_equal(server.hang_ups, 1);
    struct diagnosis_answer answer = ask(&server, closed);
    assert_string_equal(answer.text, "Connection refused");
    assert_string_equal(answer.place, "name:1");
    assert_int_equal(answer.slot, 3);
    assert_int_equal(server.hang_ups, 0);
    close(closed_fd);
    close(open_fd);
}

static void test_tls_is_no_guess_at_a_server_that_has_answered(void **state)
{
    struct server server = {.wants_5 = true, .answered = true};
    char open[64];
    int fd = bind_port(true, open);

    (void)state;
    assert_null(strstr(ask(&server, open).text, "TLS"));
    close(fd);
}

static void test_a_target_that_can_be_no_address_is_said(void **state)
{
    struct server server = {.wants_5 = true};

    (void)state;
    assert_true(strlen(ask(&server, "[::1::]:1883").text) > 0);
}

static void test_of_the_questions_asked_meanwhile_the_last_is_answered(void **state)
{
    struct diagnosis *diagnosis = diagnosis_new();
    struct server server = {.wants_5 = true};
    char open[64], closed[64];
    int fd = bind_port(true, open), closed_fd = bind_port(false, closed);
    struct endpoint one = make_failed(&server, open), other = make_failed(&server, closed);

    (void)state;
    diagnosis_ask(diagnosis, &one);
    diagnosis_ask(diagnosis, &one);
    diagnosis_ask(diagnosis, &other);
    wait_answer(diagnosis);
    assert_string_equal(wait_answer(diagnosis).text, "Connection refused");
    diagnosis_ask(diagnosis, &one);
    diagnosis_free(diagnosis); /* while it is open */
    close(fd);
    close(closed_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_closed_port_is_said_and_an_open_one_counts_as_a_hang_up),
        cmocka_unit_test(test_tls_is_no_guess_at_a_server_that_has_answered),
        cmocka_unit_test(test_a_target_that_can_be_no_address_is_said),
        cmocka_unit_test(test_of_the_questions_asked_meanwhile_the_last_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
