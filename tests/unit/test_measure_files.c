/* Files that measure reads again, whatever they are; and figures found for plots. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/report/measure_compare.h"
#include "vmm/report/measure_html.h"
#include "vmm/report/measure_plots.h"
#include "vmm/report/measure_read.h"
#include "vmm/report/measure_text.h"

static char path[32];
static struct measure_record record;
static char error[300];

static void setup(void)
{
    int fd = mkstemp(strcpy(path, "/tmp/strata-unit-XXXXXX"));

    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void teardown(void)
{
    measure_read_free(&record);
    unlink(path);
}

static int read_text(const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    error[0] = 0;
    return measure_read(&record, path, error, sizeof(error));
}

#define FILE_OF(figures)                                                              \
    "{\"schema\": \"strata.measure\", \"version\": 1, \"host\": {\"kvm\": \"npt\"}, " \
    "\"quick\": true, \"seed\": 7, \"experiments\": [{\"figures\": [" figures "]}]}"

START_TEST(good)
{
    ck_assert_int_eq(read_text(FILE_OF(
                         "{\"name\": \"x/ns\", \"kind\": \"value\", \"value\": 2.5, \"low\": 2, "
                         "\"high\": null}, {\"name\": \"x/n\", \"kind\": \"count\", \"value\": 24},"
                         "{\"name\": \"x/l\", \"kind\": \"lack\", \"why\": \"so\\u001b[2J\"}")),
                     0);
    ck_assert_str_eq(record.kvm, "npt");
    ck_assert_str_eq(record.cpu, "unknown");
    ck_assert(record.quick);
    ck_assert_uint_eq(record.seed, 7);
    ck_assert_uint_eq(record.nfigures, 3);
    ck_assert_str_eq(record.figures[0].name, "x/ns");
    ck_assert_double_eq(record.figures[0].value, 2.5);
    ck_assert_double_eq(record.figures[0].low, 2);
    ck_assert(isnan(record.figures[0].high));
    ck_assert_int_eq(record.figures[1].kind, MEASURE_COUNT);
    ck_assert_double_eq(record.figures[1].value, 24);
    ck_assert_str_eq(record.figures[2].text, "so?[2J");
}
END_TEST

/* Each is refused with a line that names the file and what is wrong. */
START_TEST(bad)
{
    static const struct {
        const char *text, *wrong;
    } files[] = {
        { "", "line 1: " },
        { "{\"schema\": \"strata.measure\"", "line 1: " },
        { "[]", "\"schema\" is not" },
        { "{\"schema\": 5}", "\"schema\" is not" },
        { "{\"schema\": \"strata.measure\"}", "\"version\" is not 1" },
        { "{\"schema\": \"strata.measure\", \"version\": 1}", "no \"host\"" },
        { "{\"schema\": \"strata.measure\", \"version\": 1, \"host\": {}, \"experiments\": [5]}",
          "experiments[0] has no \"figures\"" },
        { FILE_OF("5"), "experiments[0].figures[0].name" },
        { FILE_OF("{\"name\": \"\"}"), "figures[0].name" },
        { FILE_OF("{\"name\": \"no-path\"}"), "figures[0].name" },
        { FILE_OF("{\"name\": \"a/ b\"}"), "figures[0].name" },
        { FILE_OF("{\"name\": \"a/\\u001b\"}"), "figures[0].name" },
        { FILE_OF("{\"name\": \"a/b\"}"), "\"kind\" of a/b" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"guess\"}"), "\"kind\" of a/b" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\"}"), "a/b lacks a number" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\", \"value\": null}"), "a/b lacks" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\", \"value\": 1.5}"), "a/b lacks" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\", \"value\": -1}"), "a/b lacks" },
        { FILE_OF(
              "{\"name\": \"a/b\", \"kind\": \"value\", \"value\": 2, \"low\": 3, \"high\": 1}"),
          "\"low\" of a/b is above" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"value\", \"value\": \"1\"}"), "a/b lacks" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"value\", \"value\": 1}"), "a/b lacks" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"distribution\", \"p50\": 1, \"low\": 1, "
                  "\"high\": 1}"),
          "a/b lacks" },
        { FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\", \"value\": 1}, "
                  "{\"name\": \"a/b\", \"kind\": \"count\", \"value\": 1}"),
          "a/b is there twice" },
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        ck_assert_msg(read_text(files[i].text) < 0, "%s", files[i].text);
        ck_assert_msg(strstr(error, files[i].wrong) != NULL, "%s: %s", files[i].text, error);
        ck_assert_msg(!strncmp(error, path, strlen(path)), "%s", error);
        ck_assert_ptr_null(record.figures);
    }
}
END_TEST

START_TEST(folder)
{
    ck_assert_int_eq(measure_read(&record, "/tmp", error, sizeof(error)), -EISDIR);
    ck_assert_str_eq(error, "/tmp: Is a directory");
}
END_TEST

/* What else than the hosts makes two runs differ is said. */
START_TEST(remarks)
{
    static const char other[] =
        "{\"schema\": \"strata.measure\", \"version\": 1, \"host\": {}, \"quick\": false, "
        "\"seed\": 8, \"experiments\": [{\"name\": \"walks\", \"error\": \"no room\", "
        "\"figures\": []}, {\"name\": \"fork\", \"error\": \"\", \"figures\": []}]}";
    struct measure_comparison comparison;
    char first[sizeof(path)], *text = NULL;
    json_t *json;
    size_t bytes;
    FILE *out;

    ck_assert_int_eq(read_text(FILE_OF("{\"name\": \"a/b\", \"kind\": \"count\", \"value\": 1}")),
                     0);
    measure_read_free(&record);
    strcpy(first, path);
    setup();
    ck_assert_int_eq(read_text(other), 0);
    ck_assert_str_eq(record.failed, "walks, fork");
    ck_assert_int_eq(measure_comparison_make(&comparison, first, path, error, sizeof(error)), 0);
    unlink(first);
    out = open_memstream(&text, &bytes);
    ck_assert_ptr_nonnull(out);
    measure_comparison_print(out, &comparison);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "One of them was quick"));
    ck_assert_ptr_nonnull(strstr(text, "Their seeds differ"));
    ck_assert_ptr_nonnull(strstr(text, "B could not measure walks, fork"));
    ck_assert_ptr_null(strstr(text, "A could not"));
    free(text);
    /* Whatever the file is called. */
    comparison.a.path = "\xff";
    json = measure_comparison_json(&comparison);
    ck_assert(json_is_null(json_object_get(json_object_get(json, "a"), "file")));
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "b"), "file")), path);
    json_decref(json);
    measure_comparison_free(&comparison);
}
END_TEST

START_TEST(long_name)
{
    char name[MEASURE_NAME_BYTES + 1] = "a/", text[600];

    memset(name + 2, 'b', MEASURE_NAME_BYTES - 2);
    for (unsigned bytes = MEASURE_NAME_BYTES - 1; bytes <= MEASURE_NAME_BYTES; bytes++) {
        snprintf(text, sizeof(text),
                 FILE_OF("{\"name\": \"%.*s\", \"kind\": \"count\", \"value\": 1}"), (int)bytes,
                 name);
        ck_assert_int_eq(read_text(text) == 0, bytes < MEASURE_NAME_BYTES);
        measure_read_free(&record);
    }
}
END_TEST

static bool matches(const char *pattern, const char *name, const char *series, double x)
{
    char found[MEASURE_NAME_BYTES];
    double number = -1;

    return measure_plots_match(pattern, name, found, sizeof(found), &number) &&
           !strcmp(found, series) && number == x;
}

START_TEST(patterns)
{
    char series[MEASURE_NAME_BYTES];
    double x;

    ck_assert(matches("walks/=vm/*/%/ns", "walks/vm/4k/64K/ns", "vm 4k", 65536));
    ck_assert(matches("walks/=vm/*/%/ns", "walks/vm/4k/1G/ns", "vm 4k", 1 << 30));
    ck_assert(matches("fork/%/ms", "fork/0.25/ms", "", 0.25));
    ck_assert(matches("f/w-%/*", "f/w-75/cow", "cow", 75));
    ck_assert(!measure_plots_match("f/w-%", "f/w-", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("f/w-%", "f/v-1", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("f/w-%", "f/w", series, sizeof(series), &x));
    ck_assert(matches("a/*/ns b/*/ns", "a/x/ns", "x", -1));
    ck_assert(!measure_plots_match("walks/vm/%/ns", "walks/vm/4X/ns", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("walks/vm/%/ns", "walks/vm/64K", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("walks/vm/%", "walks/vm/64K/ns", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("walks/=vm/%", "walks/native/64K", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("walks/v/%", "walks/vm/64K", series, sizeof(series), &x));
    ck_assert(!measure_plots_match("a/*", "a/longer", series, 6, &x));
}
END_TEST

/* Sentences in lines of at most 100 columns, whichever words end just there. */
START_TEST(lines)
{
    static const struct measure_experiment nothing = { .name = "n", .shows = "nothing" };
    struct measure_run run = { .experiment = &nothing };
    char line[sizeof(run.meaning) + 8];
    FILE *text;

    for (unsigned bytes = 1; bytes < 60; bytes++) {
        size_t used = 0;

        while (used + bytes + 1 < sizeof(run.meaning)) {
            memset(run.meaning + used, 'a', bytes);
            used += bytes;
            run.meaning[used++] = ' ';
        }
        run.meaning[used] = 0;
        text = tmpfile();
        ck_assert_ptr_nonnull(text);
        measure_print(text, &run);
        rewind(text);
        for (unsigned i = 0; fgets(line, sizeof(line), text); i++)
            ck_assert_msg(i < 2 || (strlen(line) <= 101 && !strncmp(line, "  a", 3)), "%u: %s",
                          bytes, line);
        fclose(text);
    }
}
END_TEST

Suite *measure_files_suite(void)
{
    Suite *suite = suite_create("measure_files");
    TCase *tests = tcase_create("measure_files");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, good);
    tcase_add_test(tests, bad);
    tcase_add_test(tests, folder);
    tcase_add_test(tests, remarks);
    tcase_add_test(tests, long_name);
    tcase_add_test(tests, patterns);
    tcase_add_test(tests, lines);
    suite_add_tcase(suite, tests);
    return suite;
}
