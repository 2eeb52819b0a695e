#include "vmm/machine/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define LEAF_1_ECX_HYPERVISOR   (1u << 31)
#define LEAF_1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF_1_EDX_HTT          (1u << 28)

#define LEAF_HYPERVISOR         0x40000000u
#define LEAF_TIMING             0x40000010u
#define APIC_BUS_HZ             1000000000u /* KVM's local APIC timers count nanoseconds */

/* Level types of leaf 0xb (Intel SDM vol. 2, CPUID; AMD APM vol. 3, E.3.8). */
#define LEVEL_THREAD (1u << 8)
#define LEVEL_CORE   (2u << 8)

int cpuid_fetch(int kvm_fd, struct cpuid_table *table)
{
    table->nent = CPUID_ENTRIES_MAX;
    return ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, table) < 0 ? -errno : 0;
}

static void drop_leaf(struct cpuid_table *table, uint32_t leaf)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < table->nent; i++) {
        if (table->entries[i].function != leaf)
            table->entries[kept++] = table->entries[i];
    }
    table->nent = kept;
}

static void add_level(struct cpuid_table *table, uint32_t index, unsigned shift, unsigned count,
                      uint32_t type)
{
    table->entries[table->nent++] = (struct kvm_cpuid_entry2){
        .function = 0xb,
        .index = index,
        .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = shift,
        .ebx = count,
        .ecx = index | type,
    };
}

/* Bits that number n things. */
static unsigned bits_for(unsigned n)
{
    return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

int cpuid_prepare(struct cpuid_table *table, unsigned ncpus, bool tsc_deadline)
{
    unsigned shift = bits_for(ncpus);
    uint32_t highest = 0;

    /* 0x1f and 0x80000026 would contradict our 0xb; software falls back to that. */
    drop_leaf(table, 0xb);
    drop_leaf(table, 0x1f);
    drop_leaf(table, 0x80000026);
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];

        switch (entry->function) {
        case 0: highest = entry->eax; break;
        case 1:
            entry->ecx |= LEAF_1_ECX_HYPERVISOR | (tsc_deadline ? LEAF_1_ECX_TSC_DEADLINE : 0);
            entry->edx = ncpus > 1 ? entry->edx | LEAF_1_EDX_HTT : entry->edx & ~LEAF_1_EDX_HTT;
            entry->ebx = (entry->ebx & 0xff00ffffu) | (ncpus & 0xff) << 16;
            break;
        case 4:          /* deterministic cache parameters, Intel */
        case 0x8000001d: /* and AMD's: CPUs that share the cache; L1 and L2 are per core */
            if ((entry->eax & 0x1f) != 0) {
                unsigned level = entry->eax >> 5 & 7;
                unsigned sharing = level < 3 ? 1 : 1u << shift;

                entry->eax = (entry->eax & 0x00003fffu) | (sharing - 1) << 14;
                if (entry->function == 4)
                    entry->eax |= ((1u << shift) - 1) << 26;
            }
            break;
        case 0x80000008: /* number of cores and width of the core id, AMD */
            entry->ecx = (entry->ecx & 0xffff0000u) | shift << 12 | ((ncpus - 1) & 0xff);
            break;
        default: break;
        }
    }
    if (highest < 0xb)
        return 0;
    if (table->nent + 3 > CPUID_ENTRIES_MAX)
        return -ENOSPC;
    add_level(table, 0, 0, 1, LEVEL_THREAD);
    add_level(table, 1, shift, ncpus, LEVEL_CORE);
    add_level(table, 2, 0, 0, 0);
    return 0;
}

int cpuid_tell_tsc(struct cpuid_table *table, uint64_t tsc_hz)
{
    const struct kvm_cpuid_entry2 timing = { .function = LEAF_TIMING,
                                             .eax = (uint32_t)(tsc_hz / 1000),
                                             .ebx = APIC_BUS_HZ / 1000 };

    if (!tsc_hz)
        return 0;
    if (table->nent == CPUID_ENTRIES_MAX)
        return -ENOSPC;
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];

        if (entry->function == LEAF_HYPERVISOR && entry->eax < LEAF_TIMING)
            entry->eax = LEAF_TIMING;
        /* TSC = crystal * ebx / eax; the crystal also drives the local APIC's timer. */
        if (entry->function == 0x15 && !entry->eax) {
            entry->eax = APIC_BUS_HZ / 1000;
            entry->ebx = timing.eax;
            entry->ecx = APIC_BUS_HZ;
        }
    }
    table->entries[table->nent++] = timing;
    return 0;
}

void cpuid_for_vcpu(struct cpuid_table *table, unsigned apic_id)
{
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];

        switch (entry->function) {
        case 1: entry->ebx = (entry->ebx & 0x00ffffffu) | apic_id << 24; break;
        case 0xb: entry->edx = apic_id; break;
        case 0x8000001e: /* extended APIC id, compute unit, node: one thread a core, one node */
            entry->eax = apic_id;
            entry->ebx = apic_id & 0xff;
            entry->ecx = 0;
            break;
        default: break;
        }
    }
}

void cpuid_brand(char name[CPUID_BRAND_BYTES])
{
    unsigned brand[13] = { 0 };
    const char *text = (const char *)brand;

    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                    &brand[4 * i + 3]);
    snprintf(name, CPUID_BRAND_BYTES, "%s", text + strspn(text, " "));
}
