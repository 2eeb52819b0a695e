/* vmm/base/size: sizes as text, short and long. */
#include <check.h>

#include "tests/unit/suites.h"
#include "vmm/base/size.h"

START_TEST(test_short)
{
    char to[SIZE_TEXT_BYTES];

    ck_assert_str_eq(size_short(0, to), "0K");
    ck_assert_str_eq(size_short(64ull << 10, to), "64K");
    ck_assert_str_eq(size_short(512ull << 20, to), "512M");
    ck_assert_str_eq(size_short(1ull << 30, to), "1G");
    ck_assert_str_eq(size_short(1536ull << 20, to), "1.5G");
    ck_assert_str_eq(size_short(~0ull, to), "16777216T");
}
END_TEST

START_TEST(test_long)
{
    char to[SIZE_TEXT_BYTES];

    ck_assert_str_eq(size_long(0, to), "0 B");
    ck_assert_str_eq(size_long(1023, to), "1023 B");
    ck_assert_str_eq(size_long(16384, to), "16 KiB");
    ck_assert_str_eq(size_long(1536, to), "1.5 KiB");
    ck_assert_str_eq(size_long(256ull << 20, to), "256 MiB");
    ck_assert_str_eq(size_long(~0ull, to), "1.678e+07 TiB");
}
END_TEST

Suite *size_suite(void)
{
    Suite *suite = suite_create("size");
    TCase *tc = tcase_create("size");

    tcase_add_test(tc, test_short);
    tcase_add_test(tc, test_long);
    suite_add_tcase(suite, tc);
    return suite;
}
