/*
 * Hosts on which a guest breaks when it uses a feature that KVM claims to support, and
 * the template (cpuid_mask.h) that keeps it from that.
 */
#ifndef STRATA_MACHINE_CPUID_QUIRKS_H
#define STRATA_MACHINE_CPUID_QUIRKS_H

#include <stdbool.h>

/* What the host's own CPUID instruction says. */
struct cpuid_evidence {
    char hypervisor[13]; /* the one this host runs under; empty: none to be seen */
    bool svm;
};

struct cpuid_quirk {
    struct cpuid_evidence evidence;
    const char *template;
    const char *why; /* to follow "because" */
};

/* Two to four CPUID instructions, which may each cost an exit. */
void cpuid_gather(struct cpuid_evidence *evidence);

/* What is known of such a host; NULL: nothing. */
const struct cpuid_quirk *cpuid_quirk_of(const struct cpuid_evidence *evidence);

/*
 * Adds to a mask without a template what this host needs, except what is wanted all the
 * same. Why, or NULL where that changed nothing.
 */
struct cpuid_mask;
const struct cpuid_quirk *cpuid_quirk_add(struct cpuid_mask *mask);

#endif
