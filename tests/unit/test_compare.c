/* Two runs side by side: what differs, what is noise, and what nobody can know. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/suites.h"
#include "vmm/measure/compare.h"

static struct measure_figure figure(enum measure_kind kind, double low, double value, double high)
{
    return (struct measure_figure){
        .kind = kind, .name = "x/ns", .count = 10, .value = value, .low = low, .high = high
    };
}

static enum comparison_verdict verdict(struct measure_figure a, struct measure_figure b)
{
    struct comparison there = compare_figures(&a, &b), back = compare_figures(&b, &a);

    ck_assert_int_eq(there.verdict, back.verdict);
    return there.verdict;
}

START_TEST(intervals)
{
    struct measure_figure base = figure(MEASURE_VALUE, 90, 100, 110);
    struct measure_figure twice = figure(MEASURE_VALUE, 180, 200, 220);
    struct comparison comparison = compare_figures(&base, &twice);

    ck_assert_int_eq(verdict(base, twice), COMPARISON_SIGNIFICANT);
    ck_assert_double_eq(comparison.ratio, 2);
    ck_assert_double_eq_tol(comparison.low, 180.0 / 110, 1e-12);
    ck_assert_double_eq_tol(comparison.high, 220.0 / 90, 1e-12);
    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, 109, 120, 130)), COMPARISON_NOISE);
    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, 110, 120, 130)), COMPARISON_NOISE);
    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, 111, 120, 130)), COMPARISON_SIGNIFICANT);
    ck_assert_int_eq(verdict(base, base), COMPARISON_NOISE);
}
END_TEST

/* A histogram does not know a median to better than a bucket, however many it counted. */
START_TEST(buckets)
{
    struct measure_figure base = figure(MEASURE_DISTRIBUTION, 100, 100, 100);

    ck_assert_int_eq(verdict(base, figure(MEASURE_DISTRIBUTION, 103, 103, 103)), COMPARISON_NOISE);
    ck_assert_int_eq(verdict(base, figure(MEASURE_DISTRIBUTION, 104, 104, 104)),
                     COMPARISON_SIGNIFICANT);
    ck_assert_int_eq(
        verdict(figure(MEASURE_VALUE, 100, 100, 100), figure(MEASURE_VALUE, 103, 103, 103)),
        COMPARISON_SIGNIFICANT);
}
END_TEST

START_TEST(without_interval)
{
    struct measure_figure base = figure(MEASURE_VALUE, 90, 100, 110);

    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, NAN, 200, NAN)), COMPARISON_UNKNOWN);
    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, 0, 0, 0)), COMPARISON_UNKNOWN);
    ck_assert_int_eq(verdict(base, figure(MEASURE_VALUE, NAN, NAN, NAN)), COMPARISON_UNKNOWN);
}
END_TEST

START_TEST(counts)
{
    struct measure_figure count = figure(MEASURE_COUNT, NAN, 24, NAN);

    ck_assert_int_eq(verdict(count, count), COMPARISON_EQUAL);
    ck_assert_int_eq(verdict(count, figure(MEASURE_COUNT, NAN, 15, NAN)), COMPARISON_DIFFERENT);
    ck_assert_int_eq(
        verdict(figure(MEASURE_COUNT, NAN, 0, NAN), figure(MEASURE_COUNT, NAN, 0, NAN)),
        COMPARISON_EQUAL);
}
END_TEST

START_TEST(lacks)
{
    struct measure_figure lack = figure(MEASURE_UNAVAILABLE, NAN, 0, NAN);

    ck_assert_int_eq(verdict(lack, figure(MEASURE_VALUE, 1, 2, 3)), COMPARISON_LACKING);
    ck_assert_int_eq(verdict(lack, lack), COMPARISON_LACKING);
}
END_TEST

START_TEST(all_by_name)
{
    struct measure_figure a[3], b[3];
    struct comparison comparisons[6];

    for (unsigned i = 0; i < 3; i++) {
        a[i] = b[i] = figure(MEASURE_COUNT, NAN, i, NAN);
        snprintf(a[i].name, sizeof(a[i].name), "%c", "zxa"[i]);
        snprintf(b[i].name, sizeof(b[i].name), "%c", "bxz"[i]);
    }
    ck_assert_int_eq(compare_all(a, 3, b, 3, comparisons), 4);
    ck_assert_ptr_eq(comparisons[0].a, &a[0]);
    ck_assert_ptr_eq(comparisons[0].b, &b[2]);
    ck_assert_int_eq(comparisons[0].verdict, COMPARISON_DIFFERENT);
    ck_assert_ptr_eq(comparisons[1].b, &b[1]);
    ck_assert_int_eq(comparisons[1].verdict, COMPARISON_EQUAL);
    ck_assert_ptr_eq(comparisons[2].a, &a[2]);
    ck_assert_ptr_null(comparisons[2].b);
    ck_assert_int_eq(comparisons[2].verdict, COMPARISON_ALONE);
    ck_assert_ptr_null(comparisons[3].a);
    ck_assert_ptr_eq(comparisons[3].b, &b[0]);
    ck_assert_int_eq(compare_all(NULL, 0, NULL, 0, comparisons), 0);
}
END_TEST

Suite *compare_suite(void)
{
    Suite *suite = suite_create("compare");
    TCase *tests = tcase_create("compare");

    tcase_add_test(tests, intervals);
    tcase_add_test(tests, buckets);
    tcase_add_test(tests, without_interval);
    tcase_add_test(tests, counts);
    tcase_add_test(tests, lacks);
    tcase_add_test(tests, all_by_name);
    suite_add_tcase(suite, tests);
    return suite;
}
