/*
 * Features of the CPU by the names that /proc/cpuinfo has for them, and which of them a
 * guest gets to see. Where they are in CPUID: Intel SDM vol. 2A, CPUID; AMD APM vol. 3,
 * appendix E; names: Linux 6.1, arch/x86/include/asm/cpufeatures.h.
 */
#ifndef STRATA_MACHINE_CPUID_MASK_H
#define STRATA_MACHINE_CPUID_MASK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/cpuid.h"

/* The registers of CPUID that hold features, each a word of 32. */
enum cpuid_word {
    CPUID_1_EDX,
    CPUID_1_ECX,
    CPUID_6_EAX,
    CPUID_7_EBX,
    CPUID_7_ECX,
    CPUID_7_EDX,
    CPUID_7_1_EAX,
    CPUID_D_1_EAX,
    CPUID_80000001_EDX,
    CPUID_80000001_ECX,
    CPUID_80000007_EDX,
    CPUID_80000008_EBX,
    CPUID_8000000A_EDX,
    CPUID_WORDS
};

struct cpuid_mask {
    uint32_t hide[CPUID_WORDS]; /* all zero: everything that KVM supports is shown */
    uint32_t want[CPUID_WORDS]; /* the guest is not to run without these */
    bool template;              /* it begins with one; else what breaks on this host has a say */
};

/*
 * "+NAME", "-NAME" or the name of a template, in the order in which they are given. A
 * level of x86-64 hides every feature that it does not name, but for those with which a
 * guest defends itself against flaws of its CPU. False: no such name.
 */
bool cpuid_mask_add(struct cpuid_mask *mask, const char *item);

/* Every name that there is, features first and then templates. */
const char *const *cpuid_mask_names(unsigned *count);

/*
 * Hides in a table what the mask hides, what depends on that (without xsave there is no
 * avx) and the state components that go with it. The name of a feature that is wanted
 * and not there, or NULL.
 */
const char *cpuid_mask_apply(const struct cpuid_mask *mask, struct cpuid_table *table);

/* Whether a table has the feature; false as well where there is no such name. */
bool cpuid_has(const struct cpuid_table *table, const char *name);

#endif
