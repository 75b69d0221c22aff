#include "worker/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_only_identities_of_our_own_making_are_known_as_such(void **state)
{
    static const char *const ours[] = {"0123456789abcdef0123456789abcdef-1",
                                       "0123456789abcdef0123456789abcdef-18446744073709551615",
                                       "1795966530673-0-af408e0f", "0-1-00000000"};
    static const char *const foreign[] = {"",
                                          "-",
                                          "sensor-7",
                                          "type",
                                          "7",
                                          "0123456789abcdef0123456789abcdef",
                                          "0123456789abcdef0123456789abcdef-",
                                          "0123456789abcdef0123456789abcdef-1x",
                                          "0123456789ABCDEF0123456789ABCDEF-1",
                                          "1795966530673-0",
                                          "1795966530673-0-af408e0",
                                          "1795966530673-0-af408e0f0",
                                          "f795966530673-0-af408e0f",
                                          "123e4567-e89b-12d3-a456-426614174000"};

    (void)state;
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        assert_true(entry_identity_is_ours(bytes_of(ours[i])));
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        assert_false(entry_identity_is_ours(bytes_of(foreign[i])));
    assert_false(entry_identity_is_ours((struct bytes){"1-0-af40\0e0f", 12}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_identities_of_our_own_making_are_known_as_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
