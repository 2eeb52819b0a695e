/* How much memory control groups leave. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/measure/available_memory.h"

static char root[32], names[64];

/* A file below the root, and the folders on the way; its first line is `text`. */
static void put(const char *path, const char *text)
{
    char full[256];
    FILE *file;

    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *at = strchr(full + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(full, 0755);
        *at = '/';
    }
    file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "%s\n", text);
    fclose(file);
}

static void setup(void)
{
    strcpy(root, "/tmp/strata-unit-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(names, sizeof(names), "%s/names", root);
}

static void teardown(void)
{
    char command[64];

    snprintf(command, sizeof(command), "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(no_limit)
{
    ck_assert_uint_eq(available_in_groups(root, names), UINT64_MAX);
    put("names", "0::/a");
    ck_assert_uint_eq(available_in_groups(root, names), UINT64_MAX);
    put("a/memory.max", "max");
    put("a/memory.current", "5");
    ck_assert_uint_eq(available_in_groups(root, names), UINT64_MAX);
    put("names", "not a line of it");
    ck_assert_uint_eq(available_in_groups(root, names), UINT64_MAX);
}
END_TEST

/* The least of all groups above counts, less what is used and cannot be had back. */
START_TEST(second_version)
{
    put("names", "0::/a/b");
    put("a/b/memory.max", "max");
    put("a/b/memory.current", "100");
    put("a/memory.max", "1000");
    put("a/memory.current", "700");
    ck_assert_uint_eq(available_in_groups(root, names), 300);
    put("a/memory.stat", "anon 500\ninactive_file 200");
    ck_assert_uint_eq(available_in_groups(root, names), 500);
    put("a/b/memory.max", "150");
    ck_assert_uint_eq(available_in_groups(root, names), 50);
    put("a/b/memory.current", "200");
    ck_assert_uint_eq(available_in_groups(root, names), 0);
    /* As a container sees its own. */
    put("names", "0::/");
    put("memory.max", "40");
    put("memory.current", "10");
    ck_assert_uint_eq(available_in_groups(root, names), 30);
    put("names", "0::/gone/since");
    ck_assert_uint_eq(available_in_groups(root, names), 30);
}
END_TEST

START_TEST(first_version)
{
    put("names", "5:cpu,memory:/x\n4:memories:/y\n0::/");
    put("memory/x/memory.limit_in_bytes", "4000");
    put("memory/x/memory.usage_in_bytes", "3000");
    put("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500");
    ck_assert_uint_eq(available_in_groups(root, names), 1500);
    put("names", "4:memories:/x");
    ck_assert_uint_eq(available_in_groups(root, names), UINT64_MAX);
    put("names", "4:memory:/elsewhere");
    put("memory/memory.limit_in_bytes", "70");
    put("memory/memory.usage_in_bytes", "0");
    ck_assert_uint_eq(available_in_groups(root, names), 70);
}
END_TEST

START_TEST(of_this_process)
{
    uint64_t bytes = available_bytes();

    ck_assert_uint_gt(bytes, 1 << 20);
    ck_assert_uint_lt(bytes, 1ull << 50);
}
END_TEST

Suite *available_memory_suite(void)
{
    Suite *suite = suite_create("room");
    TCase *tests = tcase_create("room");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, no_limit);
    tcase_add_test(tests, second_version);
    tcase_add_test(tests, first_version);
    tcase_add_test(tests, of_this_process);
    suite_add_tcase(suite, tests);
    return suite;
}
