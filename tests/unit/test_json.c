/* vmm/base/output_file and vmm/report/json: files that are there whole or not at all. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/report/json.h"

static char directory[] = "/tmp/strata-unit-XXXXXX";
static char path[64];
static json_t *value;

static void setup(void)
{
    strcpy(directory + sizeof(directory) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/result", directory);
    value = json_result("strata.test", 1);
}

/* Everything that a test leaves is in this directory: one file at most. */
static void teardown(void)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;

    json_decref(value);
    while ((entry = readdir(listing))) {
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            ck_assert_msg(!strcmp(entry->d_name, "result") || !strcmp(entry->d_name, "link"),
                          "left behind: %s", entry->d_name);
    }
    closedir(listing);
    unlink(path);
    snprintf(path, sizeof(path), "%s/link", directory);
    unlink(path);
    rmdir(directory);
}

static void put_file(const char *content)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(content, file);
    fclose(file);
}

static void expect_schema(void)
{
    json_t *read = json_load_file(path, 0, NULL);

    ck_assert_ptr_nonnull(read);
    ck_assert_str_eq(json_string_value(json_object_get(read, "schema")), "strata.test");
    ck_assert_int_eq(json_integer_value(json_object_get(read, "version")), 1);
    json_decref(read);
}

START_TEST(test_new)
{
    struct output_file output;
    struct stat status;

    ck_assert_int_eq(output_file_open(&output, path), 0);
    /* Nothing to be seen before it is whole. */
    ck_assert_int_lt(stat(path, &status), 0);
    ck_assert_int_eq(json_write(&output, value), 0);
    expect_schema();
}
END_TEST

START_TEST(test_replace)
{
    struct output_file output;
    struct stat status;
    char link[64];

    put_file("old");
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(output_file_open(&output, path), 0);
    ck_assert_int_eq(json_write(&output, value), 0);
    expect_schema();
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0640);

    /* Through a symbolic link: the link stays one. */
    put_file("old");
    snprintf(link, sizeof(link), "%s/link", directory);
    ck_assert_int_eq(symlink(path, link), 0);
    ck_assert_int_eq(output_file_open(&output, link), 0);
    ck_assert_int_eq(json_write(&output, value), 0);
    ck_assert_int_eq(lstat(link, &status), 0);
    ck_assert(S_ISLNK(status.st_mode));
    expect_schema();
}
END_TEST

START_TEST(test_give_up)
{
    struct output_file output;
    char text[8] = "";
    FILE *file;

    put_file("old");
    ck_assert_int_eq(output_file_open(&output, path), 0);
    output_file_close(&output);
    file = fopen(path, "r");
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    ck_assert_str_eq(text, "old");
    fclose(file);
}
END_TEST

START_TEST(test_none)
{
    struct output_file output;

    ck_assert_int_eq(output_file_open(&output, NULL), 0);
    ck_assert_int_eq(json_write(&output, value), 0);
    output_file_close(&output);
}
END_TEST

START_TEST(test_cannot_write)
{
    struct output_file output;

    ck_assert_int_eq(output_file_open(&output, directory), -EISDIR);
    ck_assert_int_eq(output_file_open(&output, "/nonexistent/x"), -ENOENT);
    ck_assert_int_eq(output_file_open(&output, ""), -ENOENT);
    ck_assert_int_lt(output_file_open(&output, "/proc/strata"), 0);
}
END_TEST

START_TEST(test_full)
{
    struct output_file output;

    ck_assert_int_eq(output_file_open(&output, "/dev/full"), 0);
    ck_assert_int_eq(json_write(&output, value), -ENOSPC);
    ck_assert_int_eq(output_file_open(&output, "/dev/null"), 0);
    ck_assert_int_eq(json_write(&output, value), 0);
}
END_TEST

START_TEST(test_same_place)
{
    char longer[96], link[64];

    snprintf(longer, sizeof(longer), "%s/./result", directory);
    snprintf(link, sizeof(link), "%s/link", directory);
    ck_assert(!output_file_same(NULL, NULL));
    ck_assert(!output_file_same(path, NULL));
    ck_assert(output_file_same("-", "-"));
    ck_assert(!output_file_same("-", path));
    /* Not there yet. */
    ck_assert(output_file_same(path, longer));
    ck_assert(!output_file_same(path, link));
    put_file("old");
    ck_assert(!output_file_same(path, link));
    ck_assert_int_eq(symlink(path, link), 0);
    ck_assert(output_file_same(path, longer));
    ck_assert(output_file_same(path, link));
    ck_assert(!output_file_same("/dev/null", "/dev/../dev/null"));
}
END_TEST

Suite *json_suite(void)
{
    Suite *suite = suite_create("json");
    TCase *tc = tcase_create("json");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_new);
    tcase_add_test(tc, test_replace);
    tcase_add_test(tc, test_give_up);
    tcase_add_test(tc, test_none);
    tcase_add_test(tc, test_cannot_write);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_same_place);
    suite_add_tcase(suite, tc);
    return suite;
}
