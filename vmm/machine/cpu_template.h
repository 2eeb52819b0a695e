/*
 * Hosts on which a guest breaks when it uses a feature that KVM claims to support, and
 * the template (cpuid_mask.h) that keeps it from that.
 */
#ifndef STRATA_MACHINE_CPU_TEMPLATE_H
#define STRATA_MACHINE_CPU_TEMPLATE_H

#include <stdbool.h>

/* What the host's own CPUID instruction says. */
struct cpu_detection {
    char hypervisor[13]; /* the one this host runs under; empty: none to be seen */
    bool svm;
};

struct cpu_template {
    struct cpu_detection input;
    const char *template;
    const char *why; /* to follow "because" */
};

/* Two to four CPUID instructions, which may each cost an exit. */
void cpuid_gather(struct cpu_detection *input);

/* What is known of such a host; NULL: nothing. */
const struct cpu_template *cpu_template_find(const struct cpu_detection *input);

/*
 * Adds to a mask without a template what this host needs, except what is wanted all the
 * same. Why, or NULL where that changed nothing.
 */
struct cpuid_mask;
const struct cpu_template *cpu_template_apply(struct cpuid_mask *mask);

#endif
