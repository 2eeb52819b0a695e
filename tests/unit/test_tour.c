/* Checks and figures of the tour: what passes, what fails, what is said of it. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"
#include "vmm/tour/frame_reuse.h"
#include "vmm/tour/tour.h"

static struct tour_run *run;

static void setup(void)
{
    run = calloc(1, sizeof(*run));
    ck_assert_ptr_nonnull(run);
}

static void teardown(void)
{
    free(run);
}

START_TEST(nothing_checked_is_not_ok)
{
    ck_assert(!tour_ok(run));
}
END_TEST

START_TEST(equal)
{
    check_equal(run, 3, 3, "pages %d", 7);
    ck_assert(tour_ok(run));
    ck_assert_str_eq(run->checks[0].name, "pages 7");
    check_equal(run, 3, 4, "more");
    ck_assert(!tour_ok(run));
    ck_assert_str_eq(run->checks[1].expected, "3");
    ck_assert_str_eq(run->checks[1].observed, "4");
}
END_TEST

START_TEST(hex)
{
    check_hex(run, 0xff000, 0xff000, "root");
    ck_assert(tour_ok(run));
    ck_assert_str_eq(run->checks[0].observed, "0xff000");
    check_hex(run, 1, UINT64_MAX, "root");
    ck_assert(!tour_ok(run));
}
END_TEST

START_TEST(words)
{
    check_true(run, true, "so", "so", "it");
    ck_assert(tour_ok(run));
    check_true(run, false, "so", "other", "it");
    ck_assert(!tour_ok(run));
}
END_TEST

/* More checks than there is room for must not look like a pass. */
START_TEST(overflow)
{
    for (unsigned i = 0; i < TOUR_CHECKS_MAX; i++)
        check_equal(run, 0, 0, "check");
    ck_assert(tour_ok(run));
    check_equal(run, 0, 0, "one too many");
    ck_assert(!tour_ok(run));
    ck_assert_uint_eq(run->dropped, 1);
}
END_TEST

START_TEST(figures)
{
    check_add_figure(run, 2.5, "copy_%d_ns", 3);
    ck_assert_double_eq(check_figure(run, "copy_3_ns"), 2.5);
    ck_assert(isnan(check_figure(run, "no_such")));
    for (unsigned i = 0; i < 2 * TOUR_FIGURES_MAX; i++)
        check_add_figure(run, i, "many");
    ck_assert_uint_eq(run->nfigures, TOUR_FIGURES_MAX);
}
END_TEST

START_TEST(ticks)
{
    ck_assert(isnan(check_ticks_to_ns(run, 5)));
    run->tsc_hz = 2000000000;
    ck_assert_double_eq(check_ticks_to_ns(run, 5), 2.5);
}
END_TEST

/* Frames are known again where they are; what is not there yet is taken, and looked at. */
START_TEST(frames_reused)
{
    const uint64_t gpa[] = { 0x3000, 0x1000, 0x800000 /* no RAM */ };
    struct frame_reuse reuse;
    struct frame_reuse_found found;
    struct memory memory;
    uint8_t *ram;

    ck_assert_int_eq(memory_create(&memory, -1, 64 * MEMORY_PAGE_BYTES, MEMORY_4K), 0);
    ram = memory_at(&memory, 0, memory.bytes);
    memset(ram + gpa[0], 1, 16);
    memset(ram + gpa[1], 1, 16);
    frame_reuse_note(&reuse, &memory, gpa, 3);
    frame_reuse_find(&reuse, &memory, &found);
    ck_assert_uint_eq(found.looked, 64);
    ck_assert_uint_eq(found.fresh, 62);
    ck_assert_uint_eq(found.nonzero, 0);
    if (reuse.unknown) {
        printf("# tour: frames not known again, because %s\n", reuse.unknown);
        ck_assert_uint_eq(reuse.n, 0);
    } else {
        ck_assert_uint_eq(reuse.n, 2);
        ck_assert_uint_lt(reuse.pfn[0], reuse.pfn[1]);
    }
    ck_assert_uint_eq(found.seen, reuse.n);
    memory_destroy(&memory);
}
END_TEST

/* A control that hangs has shown nothing. */
START_TEST(refuted)
{
    check_true(run, true, "so", "so", "it");
    ck_assert(!tour_refuted(run));
    check_course(run, false, "guest exit", "still running", "the end");
    ck_assert(!tour_ok(run));
    ck_assert(!tour_refuted(run));
    check_true(run, false, "so", "other", "it");
    ck_assert(tour_refuted(run));
}
END_TEST

/* Every exercise has what the tour needs of it, and a control that differs. */
START_TEST(exercise)
{
    const struct tour_exercise *e = tour_exercises[_i];
    struct tour_host host = { .cpus = 2 };
    char plain[128], control[128];

    ck_assert_uint_gt(e->steps, 1);
    ck_assert_uint_le(e->steps, TOUR_STEPS_MAX);
    e->command(&host, false, plain, sizeof(plain));
    e->command(&host, true, control, sizeof(control));
    ck_assert_int_eq(strncmp(plain, e->name, strlen(e->name)), 0);
    ck_assert_ptr_null(strstr(plain, "break"));
    ck_assert_ptr_nonnull(strstr(control, " break"));
    ck_assert_uint_gt(e->memory_map.step, 0);
    ck_assert_uint_lt(e->memory_map.step, e->steps);
    ck_assert_uint_gt(e->memory_map.ring, 0);
    ck_assert_ptr_nonnull(e->memory_map.shows);
}
END_TEST

Suite *tour_suite(void)
{
    Suite *suite = suite_create("tour");
    TCase *tcase = tcase_create("checks");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, nothing_checked_is_not_ok);
    tcase_add_test(tcase, equal);
    tcase_add_test(tcase, hex);
    tcase_add_test(tcase, words);
    tcase_add_test(tcase, overflow);
    tcase_add_test(tcase, refuted);
    tcase_add_test(tcase, figures);
    tcase_add_test(tcase, ticks);
    tcase_add_test(tcase, frames_reused);
    tcase_add_loop_test(tcase, exercise, 0, (int)tour_exercises_count);
    suite_add_tcase(suite, tcase);
    return suite;
}
