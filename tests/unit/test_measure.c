/* Measuring: histograms, medians, figures; commands in the guest and in this process. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest/abi/syscall.h"
#include "tests/unit/suites.h"
#include "vmm/measure/fork_model.h"
#include "vmm/measure/histogram.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/native.h"
#include "vmm/measure/session.h"

static struct abi_histogram histogram;
static struct measure_run run;

static void setup(void)
{
    memset(&histogram, 0, sizeof(histogram));
    memset(&run, 0, sizeof(run));
}

static void teardown(void)
{
    measure_run_free(&run);
}

/* Every bucket begins where the one before ends, and no value is off by more than 1 in 32. */
START_TEST(buckets)
{
    for (unsigned i = 0; i + 1 < ABI_HISTOGRAM_BUCKETS; i++) {
        uint64_t low = abi_histogram_low(i), next = abi_histogram_low(i + 1);

        ck_assert_uint_lt(low, next);
        ck_assert_uint_eq(abi_histogram_bucket(low), i);
        ck_assert_uint_eq(abi_histogram_bucket(next - 1), i);
        ck_assert_uint_le((next - low - 1) * ABI_HISTOGRAM_STEPS, low);
    }
    ck_assert_uint_eq(abi_histogram_bucket(UINT64_MAX), ABI_HISTOGRAM_BUCKETS - 1);
}
END_TEST

START_TEST(shares)
{
    ck_assert_double_eq(histogram_at(&histogram, 0.5), 0);
    for (uint64_t i = 1; i <= 1000; i++)
        abi_histogram_add(&histogram, i);
    abi_histogram_add(&histogram, 1u << 20);
    ck_assert_uint_eq(histogram.count, 1001);
    ck_assert_uint_eq(histogram.min, 1);
    ck_assert_uint_eq(histogram.max, 1u << 20);
    ck_assert_uint_eq(histogram.sum, 500500 + (1u << 20));
    ck_assert_double_eq(histogram_at(&histogram, 0.01), 11);
    ck_assert_double_eq_tol(histogram_at(&histogram, 0.5), 501, 501 / 32.0);
    ck_assert_double_eq_tol(histogram_at(&histogram, 0.99), 991, 991 / 32.0);
    ck_assert_double_eq(histogram_at(&histogram, 1), 1u << 20);
}
END_TEST

START_TEST(of_one_value)
{
    for (unsigned i = 0; i < 5; i++)
        abi_histogram_add(&histogram, 1000003);
    ck_assert_double_eq(histogram_at(&histogram, 0), 1000003);
    ck_assert_double_eq(histogram_at(&histogram, 0.5), 1000003);
    ck_assert_double_eq(histogram_at(&histogram, 1), 1000003);
}
END_TEST

START_TEST(merged)
{
    struct abi_histogram other = { 0 };

    histogram_merge(&histogram, &other);
    ck_assert_uint_eq(histogram.count, 0);
    abi_histogram_add(&other, 7);
    abi_histogram_add(&other, 70000);
    histogram_merge(&histogram, &other);
    abi_histogram_add(&histogram, 3);
    histogram_merge(&other, &histogram);
    ck_assert_uint_eq(other.count, 5);
    ck_assert_uint_eq(other.min, 3);
    ck_assert_uint_eq(other.max, 70000);
    ck_assert_uint_eq(other.sum, 2 * 70007 + 3);
    ck_assert_uint_eq(other.bucket[7], 2);
}
END_TEST

START_TEST(medians)
{
    double few[] = { 3, 1, 2 }, many[101], low, high;

    ck_assert_double_eq(measure_median(few, 3, &low, &high), 2);
    ck_assert_double_eq(low, 1);
    ck_assert_double_eq(high, 3);
    ck_assert_double_eq(measure_median(few, 1, &low, &high), 1);
    ck_assert_double_eq(low, 1);
    ck_assert_double_eq(high, 1);
    for (int i = 0; i < 101; i++)
        many[i] = (i * 37) % 101;
    ck_assert_double_eq(measure_median(many, 101, &low, &high), 50);
    /* Ranks 40 and 61 of 101 hold the median with 95 % (Conover 1999, table of the sign test). */
    ck_assert_double_eq_tol(low, 40, 1);
    ck_assert_double_eq_tol(high, 61, 1);
}
END_TEST

START_TEST(figures)
{
    for (unsigned i = 0; i < 10; i++)
        abi_histogram_add(&histogram, 50 + i);
    measure_distribution(&run, &histogram, 0.5, 40, "x/%s/ns", "a");
    measure_distribution(&run, &histogram, 1, 1000, "x/below/ns");
    measure_value(&run, 2, 1, 3, 9, "x/ratio");
    measure_count(&run, 24, "x/references");
    measure_unavailable(&run, "no such pages", "x/%dg", 1);
    ck_assert_uint_eq(run.nfigures, 5);
    ck_assert_double_eq(measure_figure(&run, "x/a/ns")->value, (54 - 40) * 0.5);
    ck_assert_double_eq(measure_figure(&run, "x/a/ns")->max, (59 - 40) * 0.5);
    ck_assert_uint_eq(measure_figure(&run, "x/a/ns")->histogram->count, 10);
    ck_assert_double_eq(measure_figure(&run, "x/below/ns")->value, 0);
    ck_assert_double_eq(measure_figure(&run, "x/ratio")->high, 3);
    ck_assert_double_nan(measure_figure(&run, "x/references")->low);
    ck_assert_str_eq(measure_figure(&run, "x/1g")->text, "no such pages");
    ck_assert_ptr_null(measure_figure(&run, "x"));
    measure_distribution(&run, &(struct abi_histogram){ 0 }, 1, 0, "x/never/ns");
    ck_assert_int_eq(measure_figure(&run, "x/never/ns")->kind, MEASURE_UNAVAILABLE);
    for (unsigned i = 0; i < 100; i++)
        measure_count(&run, i, "many/%u", i);
    ck_assert_double_eq(measure_figure(&run, "many/99")->value, 99);
}
END_TEST

START_TEST(crossovers)
{
    const struct fork_costs costs = { .pt = 10, .alloc = 40, .copy = 50, .cow = 100 };
    const double share[] = { 0, 0.5, 1 }, crossing[] = { -80, -30, 20 }, never[] = { 50, 100, 150 };
    const double flat[] = { 7, 7, 7 };

    ck_assert_double_eq_tol(fork_model_crossover(&costs), 0.8, 1e-12);
    ck_assert_double_eq_tol(fork_model_zero(share, crossing, 3), 0.8, 1e-12);
    ck_assert_double_eq_tol(fork_model_zero(share, never, 3), -0.5, 1e-12);
    ck_assert_double_nan(fork_model_zero(share, flat, 3));
    ck_assert_double_nan(fork_model_zero(share, crossing, 1));
    /* Totals as the formula has them: the line finds what it says, whatever N is. */
    for (unsigned pages = 1; pages < 1000; pages *= 3) {
        double difference[3];

        for (unsigned i = 0; i < 3; i++)
            difference[i] = pages * (costs.pt + share[i] * costs.cow) -
                            pages * (costs.alloc + costs.copy);
        ck_assert_double_eq_tol(fork_model_zero(share, difference, 3), fork_model_crossover(&costs),
                                1e-9);
    }
}
END_TEST

START_TEST(sentences)
{
    measure_remark(&run, "One %s.", "thing");
    measure_remark(&run, "Another.");
    ck_assert_str_eq(run.meaning, "One thing. Another.");
    for (unsigned i = 0; i < 1000; i++)
        measure_remark(&run, "More and more.");
    ck_assert_uint_lt(strlen(run.meaning), sizeof(run.meaning));
}
END_TEST

START_TEST(native_orders)
{
    struct abi_command command = { .kind = ABI_COMMAND_CLOCK, .count = 1000 };
    struct abi_reply reply;

    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
    ck_assert_uint_eq(reply.histogram.count, 1000);
    ck_assert_uint_gt(reply.histogram.min, 0);
    command = (struct abi_command){ .kind = ABI_COMMAND_KINDS };
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_ENOSYS);
    command = (struct abi_command){ .kind = ABI_COMMAND_MAP,
                                    .bytes = 64 * 4096,
                                    .page = ABI_PAGE_4K };
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
    command = (struct abi_command){ .kind = ABI_COMMAND_TOUCH,
                                    .va = reply.value[0],
                                    .bytes = 64 * 4096,
                                    .stride = 4096,
                                    .flags = ABI_TOUCH_WRITE | ABI_TOUCH_TIMED };
    native_command(&command, &reply);
    ck_assert_uint_eq(reply.histogram.count, 64);
    command.kind = ABI_COMMAND_UNMAP;
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
}
END_TEST

START_TEST(guest_orders)
{
    const struct session_params params = { .memory_bytes = 64ull << 20, .cpus = 2 };
    struct abi_command command = { .kind = ABI_COMMAND_CLOCK, .count = 100 };
    struct kvm_host host;
    static struct session session;
    struct abi_reply reply;
    struct paging_walk walk;
    char error[256];
    uint64_t va;

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(session_command(&session, &command, &reply), 0);
    ck_assert_int_eq(reply.status, 0);
    ck_assert_uint_eq(reply.histogram.count, 100);
    command = (struct abi_command){ .kind = ABI_COMMAND_MAP, .bytes = 16 * 4096 };
    ck_assert_int_eq(session_command(&session, &command, &reply), 0);
    ck_assert_int_eq(reply.status, 0);
    va = reply.value[0];
    /* Mapped, but nothing is there before it is touched. */
    ck_assert_int_eq(program_walk(&session.program, va, &walk), -EFAULT);
    ck_assert_ptr_null(program_hva(&session.program, va));
    command = (struct abi_command){ .kind = ABI_COMMAND_TOUCH,
                                    .va = va,
                                    .bytes = 16 * 4096,
                                    .stride = 4096,
                                    .flags = ABI_TOUCH_TIMED };
    ck_assert_int_eq(session_command(&session, &command, &reply), 0);
    ck_assert_uint_eq(reply.histogram.count, 16);
    for (unsigned i = 0; i < 16; i++)
        ck_assert_ptr_nonnull(program_hva(&session.program, va + i * 4096));
    command = (struct abi_command){ .kind = ABI_COMMAND_MAP,
                                    .bytes = 2 << 20,
                                    .page = ABI_PAGE_1G };
    ck_assert_int_eq(session_command(&session, &command, &reply), 0);
    ck_assert_int_eq(reply.status, -ABI_ENOMEM);
    session_close(&session);
    kvm_close(&host);
}
END_TEST

/* The same commands in this process and in the guest: what they count is the same. */
static void changes_and_forks(int (*carry_out)(const struct abi_command *, struct abi_reply *),
                              unsigned others)
{
    struct abi_command command = { .kind = ABI_COMMAND_MAP, .bytes = 16 * 4096 };
    struct abi_reply reply;
    uint64_t va;

    ck_assert_int_eq(carry_out(&command, &reply), 0);
    va = reply.value[0];
    command = (struct abi_command){ .kind = ABI_COMMAND_FORK,
                                    .va = va,
                                    .bytes = 16 * 4096,
                                    .stride = 4096,
                                    .count = 5,
                                    .flags = ABI_TOUCH_TIMED };
    ck_assert_int_eq(carry_out(&command, &reply), 0);
    ck_assert_uint_eq(reply.histogram.count, 5);
    ck_assert_uint_gt(reply.value[ABI_FORK_TICKS], 0);
    ck_assert_uint_gt(reply.value[ABI_FORK_ALL_TICKS], reply.value[ABI_FORK_TICKS]);
    command.count = 17;
    ck_assert_int_eq(carry_out(&command, &reply), -ABI_EINVAL);
    command.count = 5;
    command.bytes = 15 * 4096;
    ck_assert_int_eq(carry_out(&command, &reply), -ABI_EINVAL);
    command = (struct abi_command){ .kind = ABI_COMMAND_COPY,
                                    .va = va,
                                    .bytes = 8 * 4096,
                                    .stride = 4096,
                                    .arg = { va + 8 * 4096 } };
    ck_assert_int_eq(carry_out(&command, &reply), 0);
    ck_assert_uint_gt(reply.value[0], 0);
    command = (struct abi_command){ .kind = ABI_COMMAND_DISCARD, .va = va, .bytes = 16 * 4096 };
    ck_assert_int_eq(carry_out(&command, &reply), 0);
    for (unsigned i = 0; i < 4; i++) {
        command = (struct abi_command){ .kind = ABI_COMMAND_CHANGE,
                                        .count = 8,
                                        .arg = { i & 1, i & 2 ? others : 0 } };
        ck_assert_int_eq(carry_out(&command, &reply), 0);
        ck_assert_uint_eq(reply.histogram.count, 8);
    }
    command.arg[1] = 1000;
    ck_assert_int_eq(carry_out(&command, &reply), -ABI_EINVAL);
}

static int in_this_process(const struct abi_command *command, struct abi_reply *reply)
{
    native_command(command, reply);
    return (int)reply->status;
}

static struct session guest_session;

static int in_guest(const struct abi_command *command, struct abi_reply *reply)
{
    int err = session_command(&guest_session, command, reply);

    return err ? err : (int)reply->status;
}

START_TEST(natively_changed_and_forked)
{
    changes_and_forks(in_this_process, 3);
}
END_TEST

/* Of three CPUs, those that share the address space are told of each change, and no other. */
START_TEST(in_guest_changed_and_forked)
{
    const struct session_params params = { .memory_bytes = 64ull << 20, .cpus = 3 };
    struct abi_command command = { .kind = ABI_COMMAND_CHANGE, .count = 8, .arg = { 1, 2 } };
    struct abi_reply reply;
    struct kvm_host host;
    char error[256];

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_msg(session_open(&guest_session, &host, &params, error, sizeof(error)) == 0, "%s",
                  error);
    changes_and_forks(in_guest, 2);
    ck_assert_uint_eq(guest_session.program.view.kernel.shootdowns, 2 * 8 * 2);
    ck_assert_int_eq(in_guest(&command, &reply), 0);
    ck_assert_uint_eq(guest_session.program.view.kernel.shootdowns, 3 * 8 * 2);
    /* More companions than CPUs. */
    command.arg[1] = 3;
    ck_assert_int_eq(in_guest(&command, &reply), -ABI_EINVAL);
    command.arg[1] = 0;
    ck_assert_int_eq(in_guest(&command, &reply), 0);
    ck_assert_uint_eq(guest_session.program.view.kernel.shootdowns, 3 * 8 * 2);
    session_close(&guest_session);
    kvm_close(&host);
}
END_TEST

/* A program that faults is gone: said once, and nothing hangs. */
START_TEST(a_program_that_dies)
{
    const struct session_params params = { .memory_bytes = 64ull << 20,
                                           .cpus = 1,
                                           .timeout_s = 20 };
    struct abi_command command = {
        .kind = ABI_COMMAND_TOUCH, .va = 0x1000, .bytes = 4096, .stride = 64
    };
    struct kvm_host host;
    static struct session session;
    struct abi_reply reply;
    char error[256];

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(session_command(&session, &command, &reply), -ESHUTDOWN);
    ck_assert_ptr_nonnull(strstr(session.program.failure, "the guest ended"));
    ck_assert_int_eq(session_command(&session, &command, &reply), -ESHUTDOWN);
    session_close(&session);
    kvm_close(&host);
}
END_TEST

Suite *measure_suite(void)
{
    Suite *suite = suite_create("measure");
    TCase *plain = tcase_create("plain"), *commands = tcase_create("commands");
    TCase *guest = tcase_create("commands in a guest");

    tcase_add_checked_fixture(plain, setup, teardown);
    tcase_add_test(plain, buckets);
    tcase_add_test(plain, shares);
    tcase_add_test(plain, of_one_value);
    tcase_add_test(plain, merged);
    tcase_add_test(plain, medians);
    tcase_add_test(plain, figures);
    tcase_add_test(plain, crossovers);
    tcase_add_test(plain, sentences);
    suite_add_tcase(suite, plain);
    tcase_set_timeout(commands, 60);
    tcase_add_test(commands, native_orders);
    tcase_add_test(commands, natively_changed_and_forked);
    suite_add_tcase(suite, commands);
    tcase_set_tags(guest, NEEDS_KVM);
    tcase_set_timeout(guest, 60);
    tcase_add_test(guest, guest_orders);
    tcase_add_test(guest, in_guest_changed_and_forked);
    tcase_add_test(guest, a_program_that_dies);
    suite_add_tcase(suite, guest);
    return suite;
}
