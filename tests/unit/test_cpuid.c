/* vmm/machine/cpuid: ids and topology in a hand-made table. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/cpuid.h"

static void make_table(struct cpuid_table *table)
{
    static const struct kvm_cpuid_entry2 entries[] = {
        { .function = 0, .eax = 0x10 },
        { .function = 1, .ebx = 0xaa10cc00, .edx = 1u << 28 },
        { .function = 4, .index = 0, .eax = 0xfc004121 }, /* L1, data */
        { .function = 4, .index = 3, .eax = 0xfc1fc163 }, /* L3, unified */
        { .function = 0xb, .index = 0, .eax = 99, .edx = 99 },
        { .function = 0xb, .index = 1, .eax = 99, .edx = 99 },
        { .function = 0x1f, .index = 0, .eax = 99 },
        { .function = 0x80000008, .eax = 0x3030, .ecx = 0x7fff },
        { .function = 0x8000001e, .eax = 99, .ebx = 0x1ff, .ecx = 0x700 },
    };

    memset(table, 0, sizeof(*table));
    memcpy(table->entries, entries, sizeof(entries));
    table->nent = sizeof(entries) / sizeof(entries[0]);
}

static const struct kvm_cpuid_entry2 *leaf(const struct cpuid_table *table, uint32_t function,
                                           uint32_t index)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        if (table->entries[i].function == function && table->entries[i].index == index)
            return &table->entries[i];
    }
    return NULL;
}

START_TEST(test_topology)
{
    static const struct {
        unsigned ncpus, shift;
    } cases[] = { { 1, 0 }, { 2, 1 }, { 3, 2 }, { 4, 2 }, { 5, 3 }, { 64, 6 } };
    unsigned ncpus = cases[_i].ncpus, shift = cases[_i].shift;
    struct cpuid_table table;

    make_table(&table);
    ck_assert_int_eq(cpuid_prepare(&table, ncpus, true), 0);
    cpuid_for_vcpu(&table, ncpus - 1);

    ck_assert_uint_eq(leaf(&table, 1, 0)->ebx >> 24, ncpus - 1);
    ck_assert_uint_eq(leaf(&table, 1, 0)->ebx >> 16 & 0xff, ncpus);
    ck_assert_uint_eq(leaf(&table, 1, 0)->edx >> 28 & 1, ncpus > 1);
    ck_assert_uint_eq(leaf(&table, 1, 0)->ecx, 1u << 31 | 1u << 24);
    ck_assert_uint_eq(leaf(&table, 0xb, 0)->ecx, 0x100);
    ck_assert_uint_eq(leaf(&table, 0xb, 0)->ebx, 1);
    ck_assert_uint_eq(leaf(&table, 0xb, 1)->eax, shift);
    ck_assert_uint_eq(leaf(&table, 0xb, 1)->ebx, ncpus);
    ck_assert_uint_eq(leaf(&table, 0xb, 1)->ecx, 0x201);
    ck_assert_uint_eq(leaf(&table, 0xb, 2)->ecx, 2);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(leaf(&table, 0xb, i)->edx, ncpus - 1);
    ck_assert_ptr_null(leaf(&table, 0x1f, 0));
    ck_assert_uint_eq(leaf(&table, 4, 0)->eax >> 14 & 0xfff, 0);
    ck_assert_uint_eq(leaf(&table, 4, 3)->eax >> 14 & 0xfff, (1u << shift) - 1);
    ck_assert_uint_eq(leaf(&table, 4, 3)->eax >> 26, (1u << shift) - 1);
    ck_assert_uint_eq(leaf(&table, 0x80000008, 0)->ecx, shift << 12 | (ncpus - 1));
    ck_assert_uint_eq(leaf(&table, 0x8000001e, 0)->eax, ncpus - 1);
}
END_TEST

START_TEST(test_no_deadline)
{
    struct cpuid_table table;

    make_table(&table);
    ck_assert_int_eq(cpuid_prepare(&table, 1, false), 0);
    ck_assert_uint_eq(leaf(&table, 1, 0)->ecx, 1u << 31);
}
END_TEST

START_TEST(test_full)
{
    struct cpuid_table table;

    make_table(&table);
    while (table.nent < CPUID_ENTRIES_MAX)
        table.entries[table.nent++] = (struct kvm_cpuid_entry2){ .function = 0x40000000 };
    ck_assert_int_eq(cpuid_prepare(&table, 1, false), 0); /* three leaves went, three came */
    table.entries[table.nent - 1].function = 0x7;
    make_table(&table);
    table.entries[4].function = table.entries[5].function = table.entries[6].function = 0x7;
    while (table.nent < CPUID_ENTRIES_MAX)
        table.entries[table.nent++] = (struct kvm_cpuid_entry2){ .function = 0x40000000 };
    ck_assert_int_eq(cpuid_prepare(&table, 1, false), -ENOSPC);
}
END_TEST

START_TEST(test_tsc)
{
    struct cpuid_table table = { .nent = 3,
                                 .entries = { { .function = 0, .eax = 0x16 },
                                              { .function = 0x15 },
                                              { .function = 0x40000000, .eax = 0x40000001 } } };

    ck_assert_int_eq(cpuid_tell_tsc(&table, 0), 0);
    ck_assert_uint_eq(table.nent, 3);
    ck_assert_int_eq(cpuid_tell_tsc(&table, 2596120000), 0);
    ck_assert_uint_eq(leaf(&table, 0x40000000, 0)->eax, 0x40000010);
    ck_assert_uint_eq(leaf(&table, 0x40000010, 0)->eax, 2596120);
    ck_assert_uint_eq(leaf(&table, 0x40000010, 0)->ebx, 1000000);
    /* The crystal's 1 GHz times ebx / eax. */
    ck_assert_uint_eq(leaf(&table, 0x15, 0)->eax, 1000000);
    ck_assert_uint_eq(leaf(&table, 0x15, 0)->ebx, 2596120);
    ck_assert_uint_eq(leaf(&table, 0x15, 0)->ecx, 1000000000);
    table.nent = CPUID_ENTRIES_MAX;
    ck_assert_int_eq(cpuid_tell_tsc(&table, 1000000), -ENOSPC);
}
END_TEST

Suite *cpuid_suite(void)
{
    Suite *suite = suite_create("cpuid");
    TCase *tc = tcase_create("cpuid");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_topology, 0, 6);
    tcase_add_test(tc, test_no_deadline);
    tcase_add_test(tc, test_full);
    tcase_add_test(tc, test_tsc);
    suite_add_tcase(suite, tc);
    return suite;
}
