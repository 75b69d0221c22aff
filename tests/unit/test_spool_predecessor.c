/* A spool that begins to receive takes over from the one that received before: predecessor.h. */
#include "consumer/spool/predecessor.h"

#include "spool_case.h"

#define PAYLOAD BYTES("21.5")

/* Spool A or B of the client, receiving. */
static void open_at(struct spool_case *c, const char *name)
{
    spool_case_close(c);
    snprintf(c->dir, sizeof(c->dir), "%s/%s", c->root, name);
    c->options.dir = c->dir;
    c->options.receives = true;
    spool_case_open(c);
}

static struct spool_message message_of(uint16_t packet_id, int qos)
{
    return (struct spool_message){
        .qos = qos, .packet_id = packet_id, .topic = BYTES("a/b"), .payload = PAYLOAD};
}

static uint64_t store(struct spool_case *c, uint16_t packet_id, int qos)
{
    struct spool_message message = message_of(packet_id, qos);
    struct error err;

    assert_int_equal(spool_append(c->spool, &message, &err), 0);
    return message.sequence;
}

static struct spool_recent find(struct spool_case *c, uint16_t packet_id)
{
    struct spool_message message = message_of(packet_id, 1);
    struct spool_recent recent = {0};

    return spool_find_recent(c->spool, &message, &recent) ? recent : (struct spool_recent){0};
}

static int end(void **state)
{
    struct spool_case *c = *state;
    static const char *const NAMES[] = {"A", "B"};

    for (size_t i = 0; i < 2; i++) {
        spool_case_close(c);
        snprintf(c->dir, sizeof(c->dir), "%s/%s", c->root, NAMES[i]);
        spool_case_clear(c->dir);
        rmdir(c->dir);
    }
    spool_case_clear(c->root);
    return spool_case_end(state);
}

static void test_another_destination_keeps_identities_and_order(void **state)
{
    struct spool_case *c = *state;
    char id[33], mark_id[64];

    open_at(c, "A");
    uint64_t first = store(c, 7, 1);
    snprintf(id, sizeof(id), "%s", spool_id(c->spool));
    snprintf(mark_id, sizeof(mark_id), "%s", spool_mark_id(c->spool));
    open_at(c, "B");
    assert_string_equal(spool_id(c->spool), id);
    assert_string_not_equal(spool_mark_id(c->spool), mark_id);
    assert_int_equal(find(c, 7).identity, first);
    uint64_t second = store(c, 8, 2);
    assert_true(second > first);
    /* And back, over a kill. */
    spool_case_reopen_killed(c);
    open_at(c, "A");
    assert_string_equal(spool_mark_id(c->spool), mark_id);
    assert_int_equal(find(c, 7).identity, first);
    assert_int_equal(find(c, 8).identity, second);
    assert_true(find(c, 8).unreleased);
    assert_true(store(c, 9, 1) > second);
}

static void test_what_was_released_elsewhere_is_not_unreleased_at_the_return(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    assert_int_equal(spool_release(c->spool, 7, &err), 0);
    open_at(c, "A");
    assert_false(find(c, 7).unreleased);
    spool_case_reopen_killed(c);
    assert_false(find(c, 7).unreleased);
}

static void test_a_session_that_ended_elsewhere_is_forgotten_at_the_return(void **state)
{
    struct spool_case *c = *state;
    struct error err;

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    assert_int_equal(spool_begin_session(c->spool, &err), 0);
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, 0);
}

static void test_a_predecessor_in_use_is_waited_for(void **state)
{
    struct spool_case *c = *state;
    struct spool_options options = c->options;
    struct spool *other = NULL;
    struct error err;
    char dir[96];

    open_at(c, "A");
    store(c, 7, 1);
    snprintf(dir, sizeof(dir), "%s/B", c->root);
    options.dir = dir;
    options.receives = true;
    assert_int_equal(spool_open(&other, &options, &err), -ERR_LOCKED);
    spool_case_close(c);
    assert_int_equal(spool_open(&other, &options, &err), 0);
    spool_close(other);
}

static void test_a_predecessor_that_cannot_be_opened_leaves_no_old_memory(void **state)
{
    struct spool_case *c = *state;
    struct error err;
    char path[160];

    open_at(c, "A");
    store(c, 7, 2);
    open_at(c, "B");
    store(c, 8, 1);
    /* A segment of another spool among its own. */
    struct segment_header header = c->spool->reader.first->header;
    header.spool_id[0] ^= 1;
    header.number = 77;
    spool_case_path(c, "000000000077.segment", path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(segment_write_header(fd, &header, &err), 0);
    close(fd);
    open_at(c, "A");
    assert_int_equal(find(c, 7).identity, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, spool_case_begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_another_destination_keeps_identities_and_order),
        TEST(test_what_was_released_elsewhere_is_not_unreleased_at_the_return),
        TEST(test_a_session_that_ended_elsewhere_is_forgotten_at_the_return),
        TEST(test_a_predecessor_in_use_is_waited_for),
        TEST(test_a_predecessor_that_cannot_be_opened_leaves_no_old_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
