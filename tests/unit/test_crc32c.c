#include "common/wire/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* RFC 3720, appendix B.4, and the check value of every CRC catalogue. */
static void test_known_answers(void **state)
{
    unsigned char bytes[32];

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62A8AB43);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46DD794E);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x113FDB5C);
}

static void test_a_former_result_goes_on(void **state)
{
    (void)state;
    for (size_t at = 0; at <= 9; at++)
        assert_int_equal(crc32c(crc32c(0, "123456789", at), "123456789" + at, 9 - at), 0xE3069283);
}

static void test_the_table_agrees_with_the_instruction(void **state)
{
    unsigned char bytes[300];

    (void)state;
    srand(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)rand();
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; len <= sizeof(bytes) - from; len++)
            assert_int_equal(crc32c((uint32_t)len, bytes + from, len),
                             crc32c_portable((uint32_t)len, bytes + from, len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_a_former_result_goes_on),
        cmocka_unit_test(test_the_table_agrees_with_the_instruction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
