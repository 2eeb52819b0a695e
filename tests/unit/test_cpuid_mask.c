/* vmm/machine/cpuid_mask and nearest: features by name, in hand-made tables. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/base/nearest.h"
#include "vmm/machine/cpu_template.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/cpuid_names.h"

/* A CPU that has everything: all bits of every word, eight components of state. */
static void make_table(struct cpuid_table *table)
{
    static const struct kvm_cpuid_entry2 entries[] = {
        { .function = 0, .eax = 0x1f },
        { .function = 1, .eax = 0x306c3, .ecx = ~0u, .edx = ~0u },
        { .function = 6, .eax = ~0u },
        { .function = 7, .index = 0, .eax = 1, .ebx = ~0u, .ecx = ~0u, .edx = ~0u },
        { .function = 7, .index = 1, .eax = ~0u },
        { .function = 0xd, .index = 0, .eax = 0x602ff, .ebx = 999, .edx = 1 },
        { .function = 0xd, .index = 1, .eax = ~0u, .ecx = 0x1900 },
        { .function = 0xd, .index = 2 },
        { .function = 0xd, .index = 5 },
        { .function = 0xd, .index = 9 },
        { .function = 0xd, .index = 18 },
        { .function = 0xd, .index = 63 },
        { .function = 0x80000001, .ecx = ~0u, .edx = ~0u },
        { .function = 0x80000007, .edx = ~0u },
        { .function = 0x80000008, .eax = 0x3030, .ebx = ~0u },
        { .function = 0x8000000a, .edx = ~0u },
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

/* Applies items to such a table; what it said is missing. */
static const char *apply(struct cpuid_table *table, const char *const *items)
{
    struct cpuid_mask mask = { 0 };

    make_table(table);
    for (; *items; items++)
        ck_assert_msg(cpuid_mask_add(&mask, *items), "%s", *items);
    return cpuid_mask_apply(&mask, table);
}

#define APPLY(table, ...) apply(table, (const char *const[]){ __VA_ARGS__, NULL })

/* Without a wish the table stays as it is, byte for byte. */
START_TEST(test_nothing)
{
    struct cpuid_mask mask = { 0 };
    struct cpuid_table table, before;

    make_table(&table);
    make_table(&before);
    ck_assert_ptr_null(cpuid_mask_apply(&mask, &table));
    ck_assert_mem_eq(&table, &before, sizeof(table));
    ck_assert(cpuid_mask_add(&mask, "+avx"));
    ck_assert_ptr_null(cpuid_mask_apply(&mask, &table));
    ck_assert_mem_eq(&table, &before, sizeof(table));
}
END_TEST

/* Every name hides a bit of its own, and itself alone unless others depend on it. */
START_TEST(test_names)
{
    const char *const *names;
    unsigned count, bits = 0;

    names = cpuid_mask_names(&count);
    ck_assert_uint_gt(count, 150);
    for (unsigned i = 0; strcmp(names[i], "host"); i++) {
        struct cpuid_table table;
        char item[40] = "-";

        for (unsigned j = i + 1; j < count; j++)
            ck_assert_msg(strcmp(names[i], names[j]), "%s twice", names[i]);
        strcat(item, names[i]);
        ck_assert_ptr_null(APPLY(&table, item));
        ck_assert_msg(!cpuid_has(&table, names[i]), "%s", names[i]);
        for (unsigned j = 0; j < count - 5; j++) {
            bool depends = i == j;

            for (const struct cpuid_dependency *one = cpuid_dependencies;
                 one->feature != CPUID_NO_FEATURE; one++)
                depends |= !strcmp(cpuid_name(one->feature), names[j]) &&
                           !cpuid_has(&table, cpuid_name(one->needs));
            ck_assert_msg(cpuid_has(&table, names[j]) == !depends, "-%s and %s", names[i],
                          names[j]);
        }
        bits++;
    }
    ck_assert_uint_eq(bits, count - 5); /* the templates are last */
}
END_TEST

START_TEST(test_places)
{
    static const struct {
        const char *item;
        uint32_t function, index;
        unsigned reg; /* 0: eax ... 3: edx */
        uint32_t bit;
    } cases[] = {
        { "-fpu", 1, 0, 3, 1 },
        { "-popcnt", 1, 0, 2, 1u << 23 },
        { "-tsc_deadline_timer", 1, 0, 2, 1u << 24 },
        { "-rdseed", 7, 0, 1, 1u << 18 },
        { "-la57", 7, 0, 2, 1u << 16 },
        { "-fsrm", 7, 0, 3, 1u << 4 },
        { "-avx_vnni", 7, 1, 0, 1u << 4 },
        { "-xgetbv1", 0xd, 1, 0, 1u << 2 },
        { "-arat", 6, 0, 0, 1u << 2 },
        { "-nx", 0x80000001, 0, 3, 1u << 20 },
        { "-abm", 0x80000001, 0, 2, 1u << 5 },
        { "-constant_tsc", 0x80000007, 0, 3, 1u << 8 },
        { "-wbnoinvd", 0x80000008, 0, 1, 1u << 9 },
        { "-vgif", 0x8000000a, 0, 3, 1u << 16 },
    };
    struct cpuid_table table;
    const struct kvm_cpuid_entry2 *entry;

    ck_assert_ptr_null(APPLY(&table, cases[_i].item));
    entry = leaf(&table, cases[_i].function, cases[_i].index);
    ck_assert_uint_eq((&entry->eax)[cases[_i].reg], ~cases[_i].bit);
}
END_TEST

/* What AMD repeats in another leaf goes with it. */
START_TEST(test_repeated)
{
    struct cpuid_table table;

    ck_assert_ptr_null(APPLY(&table, "-mmx"));
    ck_assert_uint_eq(leaf(&table, 0x80000001, 0)->edx, ~(1u << 23));
}
END_TEST

START_TEST(test_states)
{
    struct cpuid_table table;

    ck_assert_ptr_null(APPLY(&table, "-avx512f"));
    ck_assert_uint_eq(leaf(&table, 0xd, 0)->eax, 0x6021f);
    ck_assert_uint_eq(leaf(&table, 0xd, 0)->edx, 0);
    ck_assert_uint_eq(leaf(&table, 0xd, 1)->ecx, 0);
    ck_assert_ptr_nonnull(leaf(&table, 0xd, 2));
    ck_assert_ptr_null(leaf(&table, 0xd, 5));
    ck_assert_ptr_nonnull(leaf(&table, 0xd, 9));
    ck_assert_ptr_nonnull(leaf(&table, 0xd, 18));
    ck_assert_ptr_null(leaf(&table, 0xd, 63));
    ck_assert(!cpuid_has(&table, "avx512_vnni"));
    ck_assert(cpuid_has(&table, "avx2"));

    ck_assert_ptr_null(APPLY(&table, "-xsave"));
    ck_assert_ptr_null(leaf(&table, 0xd, 0));
    ck_assert(!cpuid_has(&table, "avx"));
    ck_assert(!cpuid_has(&table, "avx512_fp16"));
    ck_assert(!cpuid_has(&table, "amx_int8"));
    ck_assert(cpuid_has(&table, "sse4_2"));
}
END_TEST

/* A template shows what it names, defences, and nothing else; then comes what was added. */
START_TEST(test_templates)
{
    struct cpuid_table table;

    ck_assert_ptr_null(APPLY(&table, "x86-64-v2"));
    ck_assert_uint_eq(leaf(&table, 1, 0)->ecx, 0x81b82201);
    ck_assert_uint_eq(leaf(&table, 7, 0)->ebx, 0x100283);
    ck_assert_uint_eq(leaf(&table, 7, 0)->ecx, 1u << 2);
    ck_assert_uint_eq(leaf(&table, 7, 0)->edx, 0xbc002600);
    ck_assert_uint_eq(leaf(&table, 7, 1)->eax, 0);
    ck_assert_ptr_null(leaf(&table, 0xd, 0));
    ck_assert_uint_eq(leaf(&table, 0x80000001, 0)->ecx, 1);
    ck_assert_uint_eq(leaf(&table, 0x80000008, 0)->ebx, 0x770fd000);
    ck_assert_uint_eq(leaf(&table, 0x8000000a, 0)->edx, 0);
    ck_assert(!cpuid_has(&table, "avx"));

    ck_assert_ptr_null(APPLY(&table, "x86-64-v3"));
    ck_assert(cpuid_has(&table, "avx2") && cpuid_has(&table, "fma"));
    ck_assert(!cpuid_has(&table, "avx512f"));
    ck_assert_uint_eq(leaf(&table, 0xd, 0)->eax, 7);

    ck_assert_ptr_null(APPLY(&table, "x86-64-v1"));
    ck_assert(cpuid_has(&table, "sse2") && !cpuid_has(&table, "pni"));

    ck_assert_ptr_null(APPLY(&table, "host"));
    ck_assert(cpuid_has(&table, "avx512f"));
    ck_assert_ptr_null(APPLY(&table, "no-xsave"));
    ck_assert(!cpuid_has(&table, "avx") && cpuid_has(&table, "rdrand"));
    ck_assert_ptr_null(APPLY(&table, "x86-64-v2", "+aes", "-popcnt"));
    ck_assert(cpuid_has(&table, "aes") && !cpuid_has(&table, "popcnt"));
}
END_TEST

/* What is wanted and cannot be had is named. */
START_TEST(test_wanted)
{
    struct cpuid_mask mask = { 0 };
    struct cpuid_table table;

    ck_assert_str_eq(APPLY(&table, "x86-64-v2", "+avx"), "avx"); /* without xsave */
    ck_assert_ptr_null(APPLY(&table, "x86-64-v2", "+avx", "+xsave"));
    ck_assert_ptr_null(APPLY(&table, "+avx", "-avx"));
    make_table(&table);
    table.entries[1].ecx = 0;
    ck_assert(cpuid_mask_add(&mask, "+rdrand"));
    ck_assert_str_eq(cpuid_mask_apply(&mask, &table), "rdrand");
    table.nent = 0;
    ck_assert_str_eq(cpuid_mask_apply(&mask, &table), "rdrand");
}
END_TEST

START_TEST(test_unknown)
{
    struct cpuid_mask mask = { 0 };
    const char *const *names;
    unsigned count;

    ck_assert(!cpuid_mask_add(&mask, "-avx3"));
    ck_assert(!cpuid_mask_add(&mask, "+"));
    ck_assert(!cpuid_mask_add(&mask, "-"));
    ck_assert(!cpuid_mask_add(&mask, ""));
    ck_assert(!cpuid_mask_add(&mask, "avx"));
    ck_assert(!cpuid_mask_add(&mask, "+x86-64-v2"));
    names = cpuid_mask_names(&count);
    ck_assert_str_eq(nearest_word("avx515f", names, count), "avx512f");
    ck_assert_str_eq(nearest_word("x86-64-V2", names, count), "x86-64-v2");
    ck_assert_str_eq(nearest_word("", names, count), "de");
}
END_TEST

/* Which hosts are known, and that an unknown one is left alone. */
START_TEST(test_quirks)
{
    const struct cpu_detection tcg = { .hypervisor = "TCGTCGTCGTCG", .svm = true };
    const struct cpu_detection others[] = { { .svm = true },
                                            { .hypervisor = "TCGTCGTCGTCG" },
                                            { .hypervisor = "KVMKVMKVM", .svm = true } };
    const struct cpu_template *cpu_template = cpu_template_find(&tcg);
    struct cpuid_mask mask = { .template = false };

    ck_assert_ptr_nonnull(cpu_template);
    ck_assert_str_eq(cpu_template->template, "no-xsave");
    ck_assert(cpuid_mask_add(&mask, cpu_template->template) && mask.template);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_ptr_null(cpu_template_find(&others[i]));
    /* Who names a template has said what he wants. */
    ck_assert_ptr_null(cpu_template_apply(&mask));
}
END_TEST

Suite *cpuid_mask_suite(void)
{
    Suite *suite = suite_create("cpuid_mask");
    TCase *tc = tcase_create("cpuid_mask");

    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, test_nothing);
    tcase_add_test(tc, test_names);
    tcase_add_loop_test(tc, test_places, 0, 14);
    tcase_add_test(tc, test_repeated);
    tcase_add_test(tc, test_states);
    tcase_add_test(tc, test_templates);
    tcase_add_test(tc, test_wanted);
    tcase_add_test(tc, test_unknown);
    tcase_add_test(tc, test_quirks);
    suite_add_tcase(suite, tc);
    return suite;
}
