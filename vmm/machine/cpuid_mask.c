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
    const char *feature;
    uint32_t components;
} states[] = {
    { "xsave", 0x3 },    { "avx", 0x4 },   { "mpx", 0x18 },
    { "avx512f", 0xe0 }, { "pku", 0x200 }, { "amx_tile", 0x60000 },
};

/* Most names differ in their first letter: no call for them, while the guest waits to start. */
static inline bool is_feature(const char *name, unsigned word, unsigned bit)
{
    const char *feature = cpuid_names[word][bit];

    return feature && *feature == *name && !strcmp(feature, name);
}

static bool find(const char *name, unsigned *word, uint32_t *bit)
{
    for (*word = 0; *word < CPUID_WORDS; ++*word) {
        for (unsigned i = 0; i < 32; i++) {
            if (is_feature(name, *word, i)) {
                *bit = 1u << i;
                return true;
            }
        }
    }
    return false;
}

/* Hides, or shows, each of the names between blanks. */
static void set_names(struct cpuid_mask *mask, const char *names, bool hide)
{
    char name[32];

    while (*names) {
        size_t length = strcspn(names, " ");
        unsigned word;
        uint32_t bit;

        snprintf(name, sizeof(name), "%.*s", (int)length, names);
        if (find(name, &word, &bit))
            mask->hide[word] = hide ? mask->hide[word] | bit : mask->hide[word] & ~bit;
        names += length + strspn(names + length, " ");
    }
}

static bool add_template(struct cpuid_mask *mask, const char *name)
{
    for (const struct cpuid_template *one = cpuid_templates; one->name; one++) {
        if (strcmp(one->name, name))
            continue;
        for (unsigned i = 0; i < CPUID_WORDS; i++)
            mask->hide[i] = one->all_but ? 0 : ~words[i].defence;
        set_names(mask, one->features, one->all_but);
        mask->template = true;
        return true;
    }
    return false;
}

bool cpuid_mask_add(struct cpuid_mask *mask, const char *item)
{
    unsigned word;
    uint32_t bit;

    if (*item != '+' && *item != '-')
        return add_template(mask, item);
    if (!find(item + 1, &word, &bit))
        return false;
    mask->hide[word] = *item == '-' ? mask->hide[word] | bit : mask->hide[word] & ~bit;
    mask->want[word] = *item == '+' ? mask->want[word] | bit : mask->want[word] & ~bit;
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
    const uint32_t *value;
    unsigned word;
    uint32_t bit;

    if (!find(name, &word, &bit))
        return false;
    value = find_word(table, word);
    return value && *value & bit;
}

/* A feature of this table: where its bit is. */
struct place {
    uint32_t *value, bit;
};

static struct place find_place(uint32_t *const values[CPUID_WORDS], const char *name)
{
    unsigned word;
    struct place place = { .value = NULL };

    if (find(name, &word, &place.bit))
        place.value = values[word];
    return place;
}

static bool is_set(struct place place)
{
    return place.value && *place.value & place.bit;
}

/*
 * Until nothing changes: the table's order is no order of dependencies. Names are looked up
 * once, and only for features that are there, since a guest waits for this to start.
 */
static void hide_dependents(struct cpuid_table *table)
{
    struct place feature[CPUID_DEPENDENCIES_MAX], needs[CPUID_DEPENDENCIES_MAX];
    uint32_t *values[CPUID_WORDS];
    unsigned n = 0;
    bool again = true;

    for (unsigned i = 0; i < CPUID_WORDS; i++)
        values[i] = find_word(table, i);
    for (const struct cpuid_dependency *one = cpuid_dependencies; one->feature; one++) {
        feature[n] = find_place(values, one->feature);
        if (is_set(feature[n]))
            needs[n++] = find_place(values, one->needs);
    }
    while (again) {
        again = false;
        for (unsigned i = 0; i < n; i++) {
            if (!is_set(feature[i]) || is_set(needs[i]))
                continue;
            *feature[i].value &= ~feature[i].bit;
            again = true;
        }
    }
}

/* Leaf 0xd: user components whose feature is there, and no others; KVM works out the sizes. */
static void trim_states(struct cpuid_table *table)
{
    uint32_t components = 0, kept = 0;

    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        components |= cpuid_has(table, states[i].feature) ? states[i].components : 0;
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 entry = table->entries[i];

        if (entry.function == 0xd) {
            if (!components)
                continue;
            if (entry.index > 1 && (entry.index > 31 || !(components & 1u << entry.index)))
                continue;
            if (entry.index == 0) {
                entry.eax &= components;
                entry.edx = 0;
            } else if (entry.index == 1) {
                entry.ecx = entry.edx = 0;
            }
        }
        table->entries[kept++] = entry;
    }
    table->nent = kept;
}

const char *cpuid_mask_apply(const struct cpuid_mask *mask, struct cpuid_table *table)
{
    uint32_t *repeat;
    bool hides = false;

    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        uint32_t *value = find_word(table, i);

        if (value && *value & mask->hide[i]) {
            *value &= ~mask->hide[i] | (i == CPUID_80000001_EDX ? REPEATED : 0);
            hides = true;
        }
    }
    if (hides) {
        hide_dependents(table);
        trim_states(table);
        repeat = find_word(table, CPUID_80000001_EDX);
        if (repeat)
            *repeat &= ~REPEATED | *find_word(table, CPUID_1_EDX);
    }
    for (unsigned i = 0; i < CPUID_WORDS; i++) {
        const uint32_t *value = find_word(table, i);
        uint32_t missing = mask->want[i] & ~(value ? *value : 0);

        if (missing)
            return cpuid_names[i][__builtin_ctz(missing)];
    }
    return NULL;
}
