/*
 * The walker against KVM itself: KVM_TRANSLATE (api.rst) on random page tables in a VM,
 * 10,000 random addresses for each format. Where a format is missing, the test says so and
 * passes. KVM sets accessed bits as it walks; strata does not.
 */
#include <check.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/translate.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/guest_memory.h"
#include "vmm/machine/stats.h"
#include "vmm/machine/vm.h"

#define MIB       (1ull << 20)
#define RAM       (64 * MIB)
#define ADDRESSES 10000
#define CLUSTERS  24
#define PAGES     2500

static struct kvm_host host;
static struct vm vm;
static uint64_t clusters[CLUSTERS];
static uint64_t next_table;

static void without(const char *what, const char *why)
{
    printf("# SKIP inspect_kvm: %s: not available here, because %s\n", what, why);
    fflush(stdout);
}

static void make_vm(void)
{
    const struct vm_params params = { .memory_bytes = RAM, .ncpus = 1, .backing = MEMORY_4K };

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_int_eq(vm_create(&vm, &host, &params), 0);
    ck_assert_int_eq(vcpu_configure(&vm.vcpus[0]), 0);
}

static uint64_t random_bits(void)
{
    return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random();
}

static uint64_t *entry_at(uint64_t table, uint64_t index)
{
    uint64_t *entry = memory_at(&vm.memory, table + 8 * index, 8);

    ck_assert_ptr_nonnull(entry);
    return entry;
}

static void map_random(uint64_t root, unsigned nlevels)
{
    unsigned leaf = random() % 8 ? 1 : 2;
    uint64_t va = clusters[random() % CLUSTERS] + random_bits() % (8 * MIB), table = root, *at;

    for (unsigned level = nlevels;; level--) {
        at = entry_at(table, va >> (12 + 9 * (level - 1)) & 511);
        if (level == leaf)
            break;
        if (*at & PAGING_PS && level == 2)
            return;
        if (!(*at & PAGING_P)) {
            *at = next_table | PAGING_P | PAGING_W | PAGING_U;
            next_table += 4096;
        }
        table = *at & PAGING_ADDR;
    }
    if (*at & PAGING_P)
        return;
    *at = (random_bits() % RAM & ~(leaf == 2 ? 2 * MIB - 1 : 4095ull)) | PAGING_P |
          (leaf == 2 ? PAGING_PS : 0) | (random() % 2 ? PAGING_W : 0) |
          (random() % 2 ? PAGING_U : 0) | (random() % 2 ? PAGING_NX : 0);
}

static uint64_t random_tables(const struct paging_format *format)
{
    uint64_t root = MIB;

    next_table = root + 4096;
    for (unsigned i = 0; i < CLUSTERS; i++) {
        uint64_t va = random_bits() & ((1ull << format->va_bits) - 1) & ~(32 * MIB - 1);

        clusters[i] = (uint64_t)((int64_t)(va << (64 - format->va_bits)) >> (64 - format->va_bits));
    }
    for (unsigned i = 0; i < PAGES; i++)
        map_random(root, format->nlevels);
    return root;
}

static bool enter_long_mode(uint64_t root, bool five)
{
    struct kvm_sregs sregs;

    ck_assert_int_eq(ioctl(vm.vcpus[0].fd, KVM_GET_SREGS, &sregs), 0);
    sregs.cr3 = root;
    sregs.cr4 = 0x20 | (five ? 0x1000 : 0);
    sregs.cr0 = 0x80010033;
    sregs.efer = 0xd00;
    sregs.cs = (struct kvm_segment){
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
    };
    return ioctl(vm.vcpus[0].fd, KVM_SET_SREGS, &sregs) == 0;
}

static void compare(const struct paging_format *format, uint64_t root)
{
    unsigned mapped = 0;

    for (unsigned i = 0; i < ADDRESSES; i++) {
        uint64_t va = i % 4 ? clusters[random() % CLUSTERS] + random_bits() % (10 * MIB)
                            : random_bits();
        struct kvm_translation theirs;
        struct translation ours;

        /* KVM_TRANSLATE does not look whether an address is canonical. */
        va = (uint64_t)((int64_t)(va << (64 - format->va_bits)) >> (64 - format->va_bits));
        theirs = (struct kvm_translation){ .linear_address = va };
        translate_gva(format, &vm.memory, NULL, root, va, &ours);
        ck_assert_int_eq(ioctl(vm.vcpus[0].fd, KVM_TRANSLATE, &theirs), 0);
        ck_assert_msg(
            theirs.valid == ours.mapped && (!ours.mapped || theirs.physical_address == ours.gpa),
            "0x%llx: KVM says %d 0x%llx, strata %d 0x%llx", (unsigned long long)va, theirs.valid,
            theirs.physical_address, ours.mapped, (unsigned long long)ours.gpa);
        mapped += ours.mapped;
    }
    /* Both kinds of answer, in good number. */
    ck_assert_uint_gt(mapped, ADDRESSES / 50);
    ck_assert_uint_lt(mapped, ADDRESSES - ADDRESSES / 50);
}

START_TEST(walk_agrees_with_kvm)
{
    const struct paging_format *format = _i ? &paging_x86_5level : &paging_x86_4level;
    uint64_t root;

    srandom(11);
    make_vm();
    root = random_tables(format);
    if (enter_long_mode(root, _i))
        compare(format, root);
    else if (_i)
        without("5-level paging", "this KVM offers no LA57");
    else
        ck_abort_msg("a vCPU in long mode is refused");
    vm_destroy(&vm);
    kvm_close(&host);
}
END_TEST

START_TEST(statistics)
{
    static const char *const names[] = { "pages_4k", "no_such_thing", "remote_tlb_flush" };
    uint64_t values[3] = { 1, 1, 1 };

    make_vm();
    if (!kvm_capability(&host, KVM_CAP_BINARY_STATS_FD)) {
        without("statistics", "this KVM has none");
        ck_assert_int_lt(stats_read(vm.fd, names, values, 3), 0);
    } else {
        ck_assert_int_eq(stats_read(vm.fd, names, values, 3), 0);
        ck_assert_uint_ne(values[0], UINT64_MAX);
        ck_assert_uint_eq(values[1], UINT64_MAX);
        ck_assert_uint_ne(values[2], UINT64_MAX);
    }
    vm_destroy(&vm);
    kvm_close(&host);
}
END_TEST

Suite *inspect_kvm_suite(void)
{
    Suite *suite = suite_create("inspect_kvm");
    TCase *tcase = tcase_create("inspect_kvm");

    tcase_set_tags(tcase, NEEDS_KVM);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, walk_agrees_with_kvm, 0, 2);
    tcase_add_test(tcase, statistics);
    suite_add_tcase(suite, tcase);
    return suite;
}
