#include "common/base/offload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* Work that takes until a byte is written into it. */
struct job {
    int read_fd;
    int write_fd;
    int number;
    bool signals_blocked;
    atomic_int freed;
};

static void work(void *data)
{
    struct job *job = data;
    sigset_t blocked;
    char byte;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    job->signals_blocked = sigismember(&blocked, SIGTERM) == 1;
    if (read(job->read_fd, &byte, 1) == 1)
        job->number = 42;
}

static void free_job(void *data)
{
    struct job *job = data;
    int read_fd = job->read_fd;

    atomic_fetch_add(&job->freed, 1); /* the last that is done with the job */
    close(read_fd);                   /* whoever holds write_fd sees it */
}

static void job_open(struct job *job)
{
    int fds[2];

    *job = (struct job){0};
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    job->read_fd = fds[0];
    job->write_fd = fds[1];
}

static void job_let_go(struct job *job)
{
    assert_int_equal(write(job->write_fd, "x", 1), 1);
}

static struct offload *start(struct job *job)
{
    job_open(job);
    struct offload *call = offload_start(work, free_job, job);
    assert_non_null(call);
    return call;
}

static void test_the_descriptor_of_a_call_is_readable_when_it_is_done(void **state)
{
    struct job job;

    (void)state;
    struct offload *call = start(&job);
    struct pollfd wait = {.fd = offload_fd(call), .events = POLLIN};
    assert_false(offload_is_done(call));
    assert_int_equal(poll(&wait, 1, 0), 0);
    job_let_go(&job);
    assert_int_equal(poll(&wait, 1, 30000), 1);
    assert_true(offload_is_done(call));
    assert_int_equal(job.number, 42);
    assert_true(job.signals_blocked);
    assert_int_equal(atomic_load(&job.freed), 0);
    offload_free(call);
    struct pollfd gone = {.fd = job.write_fd};
    assert_int_equal(poll(&gone, 1, 30000), 1);
    assert_int_equal(atomic_load(&job.freed), 1);
    close(job.write_fd);
}

static void test_a_call_freed_early_does_not_wait_and_its_thread_frees_the_job(void **state)
{
    struct job job;

    (void)state;
    struct offload *call = start(&job);
    offload_free(call);
    assert_int_equal(atomic_load(&job.freed), 0);
    job_let_go(&job);
    struct pollfd gone = {.fd = job.write_fd};
    assert_int_equal(poll(&gone, 1, 30000), 1);
    assert_int_equal(atomic_load(&job.freed), 1);
    close(job.write_fd);
}

static void test_a_job_that_was_taken_back_is_not_freed(void **state)
{
    struct job job;

    (void)state;
    struct offload *call = start(&job);
    struct pollfd wait = {.fd = offload_fd(call), .events = POLLIN};
    job_let_go(&job);
    assert_int_equal(poll(&wait, 1, 30000), 1);
    assert_ptr_equal(offload_take(call), &job);
    assert_int_equal(job.number, 42);
    struct pollfd gone = {.fd = job.write_fd};
    assert_int_equal(poll(&gone, 1, 20), 0);
    assert_int_equal(atomic_load(&job.freed), 0);
    close(job.read_fd);
    close(job.write_fd);
}

static void test_without_a_free_descriptor_no_call_is_started(void **state)
{
    struct rlimit limit, none;
    struct job job;

    (void)state;
    job_open(&job);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct offload *call = offload_start(work, free_job, &job);
    int fault = errno;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_null(call);
    assert_int_equal(fault, EMFILE);
    assert_int_equal(atomic_load(&job.freed), 0);
    close(job.read_fd);
    close(job.write_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_descriptor_of_a_call_is_readable_when_it_is_done),
        cmocka_unit_test(test_a_call_freed_early_does_not_wait_and_its_thread_frees_the_job),
        cmocka_unit_test(test_a_job_that_was_taken_back_is_not_freed),
        cmocka_unit_test(test_without_a_free_descriptor_no_call_is_started),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
