/*
 * The features that cpuid_mask.c knows, as tables.
 */
#ifndef STRATA_MACHINE_CPUID_NAMES_H
#define STRATA_MACHINE_CPUID_NAMES_H

#include "vmm/machine/cpuid_mask.h"

/* Words' names by bit, "" where there is none that may be masked. */
extern const char *const cpuid_names[CPUID_WORDS][32];

/* A feature that makes no sense without another. */
struct cpuid_dependency {
    const char *feature, *needs;
};

#define CPUID_DEPENDENCIES_MAX 63
extern const struct cpuid_dependency cpuid_dependencies[]; /* up to a NULL */

struct cpuid_template {
    const char *name;
    bool all_but;         /* shows all but these; otherwise these and no others */
    const char *features; /* names between blanks */
};

extern const struct cpuid_template cpuid_templates[]; /* up to a NULL */

#endif
