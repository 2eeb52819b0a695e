/* vmm/monitor/watchdog and vmm/cli/run_status: what is a hang, and what a run's end is to the
 * shell. */
#include <check.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/cli/run_status.h"
#include "vmm/machine/vm.h"
#include "vmm/monitor/watchdog.h"

#define CPUS 2

static struct watchdog watchdog;

static void setup(void)
{
    ck_assert_int_eq(watchdog_create(&watchdog, NULL, CPUS), 0);
}

static void teardown(void)
{
    watchdog_destroy(&watchdog);
}

static const struct vcpu_sample spinning = { .started = true, .rip = 0x1000, .rsp = 0x8000 };
static const struct vcpu_sample halted_off = { .started = true, .halted = true, .rip = 0x2000 };
static const struct vcpu_sample waiting = {
    .started = true, .halted = true, .interrupts = true, .rip = 0x3000
};
static const struct vcpu_sample unborn = { 0 };

/* After how many looks at the same two vCPUs it is a hang; 0: not after many. */
static unsigned looks(struct vcpu_sample first, struct vcpu_sample second)
{
    const struct vcpu_sample cpus[CPUS] = { first, second };

    for (unsigned n = 1; n < 100; n++) {
        if (watchdog_verdict(&watchdog, cpus))
            return n;
    }
    return 0;
}

START_TEST(test_hangs)
{
    ck_assert_uint_eq(looks(spinning, waiting), WATCHDOG_CHECKS + 1);
    ck_assert_ptr_nonnull(strstr(watchdog.why, "vCPU 0 spins with interrupts off near 0x1000"));
    teardown();
    setup();
    ck_assert_uint_eq(looks(waiting, spinning), WATCHDOG_CHECKS + 1);
    ck_assert_ptr_nonnull(strstr(watchdog.why, "vCPU 1"));
    teardown();
    setup();
    ck_assert_uint_eq(looks(halted_off, halted_off), WATCHDOG_CHECKS + 1);
    ck_assert_ptr_nonnull(strstr(watchdog.why, "all vCPUs are halted"));
    teardown();
    setup();
    ck_assert_uint_eq(looks(halted_off, unborn), WATCHDOG_CHECKS + 1);
    ck_assert_ptr_nonnull(strstr(watchdog.why, "the vCPU is halted"));
}
END_TEST

START_TEST(test_lives)
{
    struct vcpu_sample on = spinning;

    on.interrupts = true;
    ck_assert_uint_eq(looks(waiting, waiting), 0);
    ck_assert_uint_eq(looks(on, on), 0);
    ck_assert_uint_eq(looks(waiting, unborn), 0);
    ck_assert_uint_eq(looks(unborn, unborn), 0);
    /* A CPU that its kernel has taken offline. */
    ck_assert_uint_eq(looks(waiting, halted_off), 0);
    ck_assert_uint_eq(looks(on, halted_off), 0);
}
END_TEST

/* Interrupts off all the time, but each of these is progress. */
START_TEST(test_progress)
{
    for (unsigned kind = 0; kind < 6; kind++) {
        struct vcpu_sample cpus[CPUS] = { spinning, waiting };

        for (unsigned n = 0; n < 40; n++) {
            ck_assert_msg(!watchdog_verdict(&watchdog, cpus), "kind %u, look %u", kind, n);
            cpus[0].rip += kind == 0 ? 64 : 0; /* near each time, but wandering off */
            cpus[0].rsp += kind == 1 ? 8 : 0;
            cpus[0].rsi += kind == 2 ? 4096 : 0;
            cpus[0].rdi += kind == 3 ? 1 : 0;
            cpus[0].exits += kind == 4 ? 1 : 0;
            cpus[0].interrupts = kind == 5 && n % 4 == 3;
        }
    }
}
END_TEST

static const struct {
    enum vm_end_reason reason;
    int said, kernel, bundled;
} ends[] = {
    { VM_END_GUEST_EXIT, 0, 0, 0 },      { VM_END_GUEST_EXIT, 42, 42, 42 },
    { VM_END_HOST_STOP, 143, 143, 143 }, { VM_END_GUEST_RESET, 0, 16, 1 },
    { VM_END_GUEST_PANIC, 1, 17, 1 },    { VM_END_TRIPLE_FAULT, 1, 18, 1 },
    { VM_END_INTERNAL_ERROR, 1, 19, 1 }, { VM_END_FAIL_ENTRY, 1, 20, 1 },
    { VM_END_UNKNOWN_EXIT, 1, 21, 1 },   { VM_END_RUN_ERROR, 1, 22, 1 },
    { VM_END_HUNG, 1, 23, 1 },
};

START_TEST(test_status)
{
    const struct vm_end end = { .reason = ends[_i].reason, .status = ends[_i].said };

    ck_assert_int_eq(run_status(&end, false), ends[_i].kernel);
    ck_assert_int_eq(run_status(&end, true), ends[_i].bundled);
}
END_TEST

Suite *watchdog_suite(void)
{
    Suite *suite = suite_create("watchdog");
    TCase *tcase = tcase_create("watchdog");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_hangs);
    tcase_add_test(tcase, test_lives);
    tcase_add_test(tcase, test_progress);
    tcase_add_loop_test(tcase, test_status, 0, sizeof(ends) / sizeof(ends[0]));
    suite_add_tcase(suite, tcase);
    return suite;
}
