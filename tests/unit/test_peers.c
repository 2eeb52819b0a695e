/* Strata beside its peers: what comes of the samples, and whether the goals hold. */
#include <check.h>
#include <string.h>

#include "tests/bench/peers.h"
#include "tests/unit/suites.h"

#define MS 1e6

static struct peers_row rows[4];
static struct peers_goal goals[PEERS_GOALS];

/* Such as hold all goals, each just so. */
static void setup(void)
{
    rows[0] = (struct peers_row){ .vmm = "strata", .protocol = "pvh", .starts = 5 };
    rows[1] = (struct peers_row){ .vmm = "qemu", .protocol = "pvh", .starts = 5 };
    rows[2] = (struct peers_row){ .vmm = "strata", .protocol = "bzimage", .starts = 5 };
    rows[3] = (struct peers_row){ .vmm = "kvmtool", .protocol = "bzimage", .starts = 5 };
    rows[0].line_ns = 90 * MS;
    rows[1].line_ns = 100 * MS;
    rows[2].line_ns = 180 * MS;
    rows[3].line_ns = 200 * MS;
    rows[0].private_bytes = PEERS_PRIVATE_MAX;
    rows[2].private_bytes = PEERS_PRIVATE_MAX / 2;
    rows[1].private_bytes = 64 * PEERS_PRIVATE_MAX;
}

static int check_outcome(void)
{
    peers_check_outcome(rows, sizeof(rows) / sizeof(rows[0]), goals);
    return peers_status(goals);
}

START_TEST(summary)
{
    double line[] = { 3, 1, 2, 10 }, private_bytes[] = { 8, 4, 6, 2 }, anonymous[] = { 1, 1, 1, 3 };
    struct peers_row row = { .vmm = "strata", .protocol = "pvh" };

    peers_summarise(&row, line, private_bytes, anonymous, 4);
    ck_assert_uint_eq(row.starts, 4);
    ck_assert_double_eq(row.line_ns, 2.5);
    ck_assert_double_eq(row.line_min_ns, 1);
    ck_assert_double_eq(row.line_max_ns, 10);
    ck_assert_double_eq(row.private_bytes, 5);
    ck_assert_double_eq(row.anonymous_bytes, 1);
}
END_TEST

START_TEST(all_hold)
{
    ck_assert_int_eq(check_outcome(), 0);
    for (unsigned i = 0; i < PEERS_GOALS; i++)
        ck_assert(goals[i].checked && goals[i].holds && !goals[i].reference);
    ck_assert_double_eq_tol(goals[0].value, 0.9, 1e-12);
    ck_assert_double_eq_tol(goals[1].value, 0.9, 1e-12);
    ck_assert_double_eq(goals[2].value, PEERS_PRIVATE_MAX);
}
END_TEST

/* Each goal alone can fail, and only it then. */
START_TEST(each_can_fail)
{
    switch (_i) {
    case 0: rows[0].line_ns += MS; break;
    case 1: rows[3].line_ns -= MS; break;
    case 2: rows[2].private_bytes = PEERS_PRIVATE_MAX + 1; break;
    }
    ck_assert_int_eq(check_outcome(), 1);
    for (int i = 0; i < PEERS_GOALS; i++) {
        ck_assert(goals[i].checked);
        ck_assert_int_eq(goals[i].holds, i != _i);
    }
}
END_TEST

/* kvmtool's time of old stands in for it, and is said to; nothing stands in for QEMU. */
START_TEST(not_measured)
{
    rows[3].starts = 0;
    ck_assert_int_eq(check_outcome(), 0);
    ck_assert(goals[1].reference && goals[1].checked);
    ck_assert_double_eq(goals[1].value, 180 * MS / PEERS_KVMTOOL_NS);
    rows[2].line_ns = PEERS_KVMTOOL_NS;
    ck_assert_int_eq(check_outcome(), 1);

    setup();
    rows[1].starts = 0;
    ck_assert_int_eq(check_outcome(), 2);
    ck_assert(!goals[0].checked && !goals[0].holds && goals[1].holds && goals[2].holds);

    setup();
    rows[2].starts = 0;
    ck_assert_int_eq(check_outcome(), 2);
    ck_assert(goals[0].checked && !goals[1].checked && !goals[2].checked);
}
END_TEST

Suite *peers_suite(void)
{
    Suite *suite = suite_create("peers");
    TCase *tcase = tcase_create("goals");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, summary);
    tcase_add_test(tcase, all_hold);
    tcase_add_loop_test(tcase, each_can_fail, 0, PEERS_GOALS);
    tcase_add_test(tcase, not_measured);
    suite_add_tcase(suite, tcase);
    return suite;
}
