/* vmm/base/parse and vmm/cli/options: numbers and sizes, and misuse that ends the process with
 * status 2. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/base/parse.h"
#include "vmm/cli/options.h"
#include "vmm/launch/config_fields.h"

static const struct {
    const char *text;
    int result;
    uint64_t bytes;
} sizes[] = {
    { "0", 0, 0 },
    { "4096", 0, 4096 },
    { "1K", 0, 1024 },
    { "256M", 0, 256ull << 20 },
    { "256m", 0, 256ull << 20 },
    { "2G", 0, 2ull << 30 },
    { "1T", 0, 1ull << 40 },
    { "18446744073709551615", 0, UINT64_MAX },
    { "", -EINVAL, 0 },
    { "M", -EINVAL, 0 },
    { "-1", -EINVAL, 0 },
    { "+1", -EINVAL, 0 },
    { " 1", -EINVAL, 0 },
    { "1.5G", -EINVAL, 0 },
    { "1MB", -EINVAL, 0 },
    { "1X", -EINVAL, 0 },
    { "0x10", -EINVAL, 0 },
    { "18446744073709551616", -ERANGE, 0 },
    { "18446744073709551615K", -ERANGE, 0 },
    { "16777216T", -ERANGE, 0 },
};

static const struct {
    const char *text;
    int result;
    uint64_t ns;
} times[] = {
    { "2ms", 0, 2000000 },   { "150us", 0, 150000 },      { "0", 0, 0 },
    { "0ms", 0, 0 },         { "1000ms", 0, 1000000000 }, { "1001ms", -ERANGE, 7 },
    { "2", -EINVAL, 7 },     { "2s", -EINVAL, 7 },        { "", -EINVAL, 7 },
    { "ms", -EINVAL, 7 },    { "-1ms", -EINVAL, 7 },      { "2 ms", -EINVAL, 7 },
    { "2msx", -EINVAL, 7 },  { "1.5ms", -EINVAL, 7 },     { "99999999999999999999us", -ERANGE, 7 },
    { "0x2ms", -EINVAL, 7 },
};

START_TEST(test_time)
{
    uint64_t ns = 7;

    ck_assert_int_eq(parse_time(times[_i].text, 1000000000, &ns), times[_i].result);
    ck_assert_uint_eq(ns, times[_i].ns);
}
END_TEST

START_TEST(test_size)
{
    uint64_t bytes = 0;

    ck_assert_int_eq(parse_size(sizes[_i].text, &bytes), sizes[_i].result);
    ck_assert_uint_eq(bytes, sizes[_i].bytes);
}
END_TEST

START_TEST(test_count)
{
    unsigned count = 0;

    ck_assert_int_eq(parse_count("64", 64, &count), 0);
    ck_assert_uint_eq(count, 64);
    ck_assert_int_eq(parse_count("65", 64, &count), -ERANGE);
    ck_assert_int_eq(parse_count("99999999999999999999", 64, &count), -ERANGE);
    ck_assert_int_eq(parse_count("", 64, &count), -EINVAL);
    ck_assert_int_eq(parse_count("-1", 64, &count), -EINVAL);
    ck_assert_int_eq(parse_count("2x", 64, &count), -EINVAL);
}
END_TEST

START_TEST(test_backing)
{
    enum memory_backing backing = MEMORY_4K;

    ck_assert_int_eq(parse_backing("thp", &backing), 0);
    ck_assert_int_eq(backing, MEMORY_THP);
    ck_assert_int_eq(parse_backing("4K", &backing), 0);
    ck_assert_int_eq(backing, MEMORY_4K);
    ck_assert_int_eq(parse_backing("hugetlb", &backing), 0);
    ck_assert_int_eq(backing, MEMORY_HUGETLB);
    ck_assert_int_eq(parse_backing("hugetlb-1g", &backing), 0);
    ck_assert_int_eq(backing, MEMORY_HUGETLB_1G);
    ck_assert_int_eq(parse_backing("2M", &backing), -EINVAL);
}
END_TEST

static const struct option_entry entries[] = {
    { "file", "FILE", "a file" },
    { "flag", NULL, "a flag" },
};

static const struct command_line line = {
    .command = "test", .summary = "Tests.", .options = entries, .noptions = 2
};
static const struct command_line line_with_operands = { .command = "test",
                                                        .operands = "[NAME...]",
                                                        .summary = "Tests.",
                                                        .options = entries,
                                                        .noptions = 2 };

START_TEST(test_good)
{
    char *argv[] = { (char *)"test",     (char *)"--file", (char *)"a", (char *)"--flag",
                     (char *)"--file=b", (char *)"x",      NULL };
    const char *value;

    optind = 0;
    ck_assert_int_eq(options_next(&line_with_operands, 6, argv, &value), 0);
    ck_assert_str_eq(value, "a");
    ck_assert_int_eq(options_next(&line_with_operands, 6, argv, &value), 1);
    ck_assert_int_eq(options_next(&line_with_operands, 6, argv, &value), 0);
    ck_assert_str_eq(value, "b");
    ck_assert_int_eq(options_next(&line_with_operands, 6, argv, &value), -1);
    ck_assert_str_eq(argv[optind], "x");
}
END_TEST

static const char *const misuse[] = {
    "--nonsense", "--file", "--flag=1", "-x", "operand", "--nonsense=1", "--f",
};

/* The test's process ends inside; check compares its exit status. */
START_TEST(test_misuse)
{
    char *argv[] = { (char *)"test", (char *)misuse[_i], NULL };
    const char *value;

    close(STDERR_FILENO);
    open("/dev/null", O_WRONLY);
    optind = 0;
    while (options_next(&line, 2, argv, &value) >= 0)
        ;
}
END_TEST

START_TEST(test_mac)
{
    static const char *const bad[] = { "",
                                       "02:00:00:00:00",
                                       "02:00:00:00:00:01:",
                                       "02:00:00:00:00:0x",
                                       "02-00-00-00-00-01",
                                       "00:00:00:00:00:00",
                                       "03:00:00:00:00:01",
                                       "ff:ff:ff:ff:ff:ff",
                                       "+2:00:00:00:00:01" };
    uint8_t mac[NET_MAC_BYTES] = { 9 };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(config_parse_mac(bad[i], mac) == -EINVAL && mac[0] == 9, "%s", bad[i]);
    ck_assert_int_eq(config_parse_mac("02:1f:aB:00:ff:01", mac), 0);
    ck_assert_mem_eq(mac, ((const uint8_t[]){ 2, 0x1f, 0xab, 0, 0xff, 1 }), sizeof(mac));
}
END_TEST

START_TEST(test_help)
{
    char *argv[] = { (char *)"test", (char *)"--help", NULL };
    const char *value;

    close(STDOUT_FILENO);
    open("/dev/null", O_WRONLY);
    optind = 0;
    options_next(&line, 2, argv, &value);
    _exit(9);
}
END_TEST

Suite *options_suite(void)
{
    Suite *suite = suite_create("options");
    TCase *tc = tcase_create("options");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_time, 0, sizeof(times) / sizeof(times[0]));
    tcase_add_loop_test(tc, test_size, 0, sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_test(tc, test_mac);
    tcase_add_test(tc, test_count);
    tcase_add_test(tc, test_backing);
    tcase_add_test(tc, test_good);
    tcase_add_loop_exit_test(tc, test_misuse, STATUS_USAGE, 0, sizeof(misuse) / sizeof(misuse[0]));
    tcase_add_exit_test(tc, test_help, STATUS_OK);
    suite_add_tcase(suite, tc);
    return suite;
}
