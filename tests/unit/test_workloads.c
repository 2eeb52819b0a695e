/* Workloads: the same result from the same work, wherever it is done, and only then. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi/syscall.h"
#include "guest/measure/workload.h"
#include "tests/unit/suites.h"
#include "vmm/measure/native.h"
#include "vmm/measure/session.h"

#define BYTES (2ull << 20)
#define COUNT 3000

static struct abi_command work(unsigned workload, uint64_t va, uint64_t seed)
{
    return (struct abi_command){ .kind = ABI_COMMAND_WORKLOAD,
                                 .va = va,
                                 .bytes = BYTES,
                                 .count = COUNT,
                                 .seed = seed,
                                 .arg = { workload } };
}

static void *map_native(enum abi_page_kind page)
{
    const struct abi_command command = { .kind = ABI_COMMAND_MAP, .bytes = BYTES, .page = page };
    struct abi_reply reply;

    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
    return (void *)reply.value[0];
}

static void build_native(unsigned workload, void *memory, uint64_t seed)
{
    struct abi_command command = work(workload, (uint64_t)memory, seed);
    struct abi_reply reply;

    command.flags = ABI_WORKLOAD_BUILD;
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
}

static struct abi_reply run_native(unsigned workload, void *memory, uint64_t seed)
{
    const struct abi_command command = work(workload, (uint64_t)memory, seed);
    struct abi_reply reply;

    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, 0);
    ck_assert_uint_gt(reply.value[0], 0);
    ck_assert_uint_ge(reply.value[2], COUNT);
    return reply;
}

/* Each number comes exactly once, whatever the width. */
START_TEST(scattered)
{
    for (unsigned bits = 12; bits < 17; bits++) {
        char *seen = calloc(1ull << bits, 1);
        unsigned in_order = 0;

        for (uint64_t i = 0; i < 1ull << bits; i++) {
            uint64_t at = workload_scatter(i, bits);

            ck_assert_uint_lt(at, 1ull << bits);
            ck_assert_int_eq(seen[at]++, 0);
            in_order += workload_scatter(i + 1, bits) == at + 1;
        }
        ck_assert_uint_lt(in_order, 64);
        free(seen);
    }
}
END_TEST

START_TEST(of_the_same_work)
{
    void *small = map_native(ABI_PAGE_4K), *large = map_native(ABI_PAGE_2M);
    struct abi_reply a, b;

    build_native((unsigned)_i, small, 1);
    build_native((unsigned)_i, large, 1);
    for (uint64_t seed = 1; seed < 4; seed++) {
        a = run_native((unsigned)_i, small, seed);
        b = run_native((unsigned)_i, large, seed);
        ck_assert_uint_eq(a.value[1], b.value[1]);
        ck_assert_uint_eq(a.value[2], b.value[2]);
    }
    /* Other operations, and other data, come to something else. */
    b = run_native((unsigned)_i, large, 4);
    ck_assert_uint_ne(a.value[1], b.value[1]);
    build_native((unsigned)_i, small, 1);
    build_native((unsigned)_i, large, 2);
    a = run_native((unsigned)_i, small, 5);
    b = run_native((unsigned)_i, large, 5);
    ck_assert_uint_ne(a.value[1], b.value[1]);
}
END_TEST

/* Half of the keys are there, and each has its value: a tree that loses one is noticed. */
START_TEST(all_of_a_tree)
{
    uint32_t *memory = map_native(ABI_PAGE_4K);
    uint64_t before;

    build_native(ABI_WORKLOAD_BTREE, memory, 1);
    before = run_native(ABI_WORKLOAD_BTREE, memory, 9).value[1];
    ck_assert_uint_eq(run_native(ABI_WORKLOAD_BTREE, memory, 9).value[1], before);
    /* Values are 32 random bits: about COUNT / 2 of them. */
    ck_assert_uint_gt(before, COUNT * 0x60000000ull / 2);
    ck_assert_uint_lt(before, COUNT * 0xa0000000ull / 2);
    memset(memory, 0, BYTES / 2);
    ck_assert_uint_ne(run_native(ABI_WORKLOAD_BTREE, memory, 9).value[1], before);
}
END_TEST

START_TEST(that_cannot_be)
{
    struct abi_command command = work(ABI_WORKLOADS, 0x1000, 1);
    struct abi_reply reply;

    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_EINVAL);
    command = work(ABI_WORKLOAD_GUPS, 0x1000, 0);
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_EINVAL);
    command = work(ABI_WORKLOAD_GUPS, 0x1000, 1);
    command.bytes = 3 << 20;
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_EINVAL);
    command.bytes = 1 << 19;
    native_command(&command, &reply);
    ck_assert_int_eq(reply.status, -ABI_EINVAL);
}
END_TEST

START_TEST(in_a_guest)
{
    const struct session_params params = { .memory_bytes = 64ull << 20, .cpus = 1 };
    struct abi_command command = { .kind = ABI_COMMAND_MAP, .bytes = BYTES };
    void *memory = map_native(ABI_PAGE_4K);
    static struct session session;
    struct abi_reply reply;
    struct kvm_host host;
    char error[256];
    uint64_t va;

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(session_command(&session, &command, &reply), 0);
    va = reply.value[0];
    for (unsigned i = 0; i < ABI_WORKLOADS; i++) {
        build_native(i, memory, 3);
        command = work(i, va, 3);
        command.flags = ABI_WORKLOAD_BUILD;
        ck_assert_int_eq(session_command(&session, &command, &reply), 0);
        ck_assert_int_eq(reply.status, 0);
        command = work(i, va, 8);
        ck_assert_int_eq(session_command(&session, &command, &reply), 0);
        ck_assert_int_eq(reply.status, 0);
        ck_assert_uint_eq(reply.value[1], run_native(i, memory, 8).value[1]);
    }
    session_close(&session);
    kvm_close(&host);
}
END_TEST

Suite *workloads_suite(void)
{
    Suite *suite = suite_create("workloads");
    TCase *plain = tcase_create("native"), *guest = tcase_create("guest");

    tcase_add_test(plain, scattered);
    tcase_add_loop_test(plain, of_the_same_work, 0, ABI_WORKLOADS);
    tcase_add_test(plain, all_of_a_tree);
    tcase_add_test(plain, that_cannot_be);
    suite_add_tcase(suite, plain);
    tcase_set_tags(guest, NEEDS_KVM);
    tcase_set_timeout(guest, 60);
    tcase_add_test(guest, in_a_guest);
    suite_add_tcase(suite, guest);
    return suite;
}
