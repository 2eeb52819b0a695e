#include "vmm/machine/cpuid_mask.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine/cpuid_names.h"

#define NAMES_MAX (CPUID_WORDS * 32)

enum { EAX, EBX, ECX, EDX };

static const struct {
    uint32_t function, index;
    unsigned reg;
    uint32_t defence; /* bits by which a guest learns of mitigations; templates leave them */
} words[CPUID_WORDS] = {
    [CPUID_1_EDX] = { 1, 0, EDX, 0 },
    [CPUID_1_ECX] = { 1, 0, ECX, 0 },
    [CPUID_6_EAX] = { 6, 0, EAX, 0 },
    [CPUID_7_EBX] = { 7, 0, EBX, 0 },
    [CPUID_7_ECX] = { 7, 0, ECX, 0 },
    /* From SRBDS_CTRL and MD_CLEAR to SPEC_CTRL, STIBP, L1D flush, ARCH_CAPABILITIES, SSBD. */
    [CPUID_7_EDX] = { 7, 0, EDX, 0xbc002600 },
    [CPUID_7_1_EAX] = { 7, 1, EAX, 0 },
    [CPUID_D_1_EAX] = { 0xd, 1, EAX, 0 },
    [CPUID_80000001_EDX] = { 0x80000001, 0, EDX, 0 },
    [CPUID_80000001_ECX] = { 0x80000001, 0, ECX, 0 },
    [CPUID_80000007_EDX] = { 0x80000007, 0, EDX, 0 },
    /* IBPB to SSB_NO, and what says that the CPU is not affected. */
    [CPUID_80000008_EBX] = { 0x80000008, 0, EBX, 0x770fd000 },
    [CPUID_8000000A_EDX] = { 0x8000000a, 0, EDX, 0 },
};

/* Where AMD repeats bits of leaf 1 in 0x80000001. */
#define REPEATED 0x0183f3ffu

/* State components of XSAVE (Intel SDM vol. 1, 13.1) and whose they are. */
static const struct {
    enum cpuid_feature feature;
    uint32_t components;
} states[] = {
    { CPUID_HAS_xsave, 0x3 },    { CPUID_HAS_avx, 0x4 },   { CPUID_HAS_mpx, 0x18 },
    { CPUID_HAS_avx512f, 0xe0 }, { CPUID_HAS_pku, 0x200 }, { CPUID_HAS_amx_tile, 0x60000 },
};

/* The number of the feature, or CPUID_NO_FEATURE. */
static unsigned find(const char *name)
{
    unsigned feature = 0;

    while (feature < CPUID_NO_FEATURE &&
           (!cpuid_name(feature) || strcmp(cpuid_name(feature), name)))
        feature++;
    return feature;
}

static uint32_t bit_of(unsigned feature)
{
    return 1u << feature % 32;
}

static void set_bit(uint32_t mask[CPUID_WORDS], unsigned feature, bool on)
{
    if (on)
        mask[feature / 32] |= bit_of(feature);
    else
        mask[feature / 32] &= ~bit_of(feature);
}

static bool add_template(struct cpuid_mask *mask, const char *name)
{
    for (const struct cpuid_template *one = cpuid_templates; one->name; one++) {
        if (strcmp(one->name, name))
            continue;
        for (unsigned i = 0; i < CPUID_WORDS; i++)
            mask->hide[i] = one->all_but ? 0 : ~words[i].defence;
        for (const uint16_t *feature = one->features; *feature != CPUID_NO_FEATURE; feature++)
            set_bit(mask->hide, *feature, one->all_but);
        mask->template = true;
        return true;
    }
    return false;
}

bool cpuid_mask_add(struct cpuid_mask *mask, const char *item)
{
    unsigned feature;

    if (*item != '+' && *item != '-')
        return add_template(mask, item);
    feature = find(item + 1);
    if (feature == CPUID_NO_FEATURE)
        return false;
    set_bit(mask->hide, feature, *item == '-');
    set_bit(mask->want, feature, *item == '+');
    return true;
}

const char *const *cpuid_mask_names(unsigned *count)
{
    static const char *names[NAMES_MAX];

    *count = 0;
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        if (cpuid_names[i / 32][i % 32])
            names[(*count)++] = cpuid_names[i / 32][i % 32];
    }
    for (const struct cpuid_template *one = cpuid_templates; one->name; one++)
        names[(*count)++] = one->name;
    return names;
}

static struct kvm_cpuid_entry2 *find_leaf(struct cpuid_table *table, uint32_t function,
                                          uint32_t index)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];

        if (entry->function == function && entry->index == index)
            return entry;
    }
    return NULL;
}

static uint32_t *find_word(const struct cpuid_table *table, unsigned word)
{
    struct kvm_cpuid_entry2 *entry = find_leaf((struct cpuid_table *)table, words[word].function,
                                               words[word].index);

    if (!entry)
        return NULL;
    switch (words[word].reg) {
    case EAX: return &entry->eax;
    case EBX: return &entry->ebx;
    case ECX: return &entry->ecx;
    default: return &entry->edx;
    }
}

bool cpuid_has(const struct cpuid_table *table, const char *name)
{
    unsigned feature = find(name);
    const uint32_t *value;

    if (feature == CPUID_NO_FEATURE)
        return false;
    value = find_word(table, feature / 32);
    return value && *value & bit_of(feature);
}

/* Where a table has each word, NULL where it has not. */
static void find_words(const struct cpuid_table *table, uint32_t *values[CPUID_WORDS])
{
    for (unsigned i = 0; i < CPUID_WORDS; i++)
        values[i] = find_word(table, i);
}

static bool is_set(uint32_t *const values[CPUID_WORDS], unsigned feature)
{
    const uint32_t *value = values[feature / 32];

    return value && *value & bit_of(feature);
}

/* Until nothing changes: the table's order is no order of dependencies. */
static void hide_dependents(uint32_t *const values[CPUID_WORDS])
{
    bool again = true;

    while (again) {
        again = false;
        for (const struct cpuid_dependency *one = cpuid_dependencies;
             one->feature != CPUID_NO_FEATURE; one++) {
            if (!is_set(values, one->feature) || is_set(values, one->needs))
                continue;
            *values[one->feature / 32] &= ~bit_of(one->feature);
            again = true;
        }
    }
}

/*
 * Leaf 0xd: user components whose feature is there, and no others; KVM works out the sizes.
 * Entries move, so that the words must be found again.
 */
static void trim_states(struct cpuid_table *table, uint32_t *const values[CPUID_WORDS])
{
    uint32_t components = 0, kept = 0;

    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        components |= is_set(values, states[i].feature) ? states[i].components : 0;
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];

        if (entry->function == 0xd) {
            if (!components)
                continue;
            if (entry->index > 1 && (entry->index > 31 || !(components & 1u << entry->index)))
                continue;
            if (entry->index == 0) {
                entry->eax &= components;
                entry->edx = 0;
            } else if (entry->index == 1) {
                entry->ecx = entry->edx = 0;
            }
        }
        if (kept != i)
            table->entries[kept] = *entry;
        kept++;
    }
    table->nent = kept;
}

const char *cpuid_mask_apply(const struct cpuid_mask *mask, struct cpuid_table *table)
{
    uint32_t *values[CPUID_WORDS];
    bool hides = false;

    find_words(table, values);
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        if (values[i] && *values[i] & mask->hide[i]) {
            *values[i] &= ~mask->hide[i] | (i == CPUID_80000001_EDX ? REPEATED : 0);
            hides = true;
        }
    }
    if (hides) {
        hide_dependents(values);
        trim_states(table, values);
        find_words(table, values);
        if (values[CPUID_80000001_EDX])
            *values[CPUID_80000001_EDX] &= ~REPEATED | *values[CPUID_1_EDX];
    }
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        uint32_t missing = mask->want[i] & ~(values[i] ? *values[i] : 0);

        if (missing)
            return cpuid_names[i][__builtin_ctz(missing)];
    }
    return NULL;
}
