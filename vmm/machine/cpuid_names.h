/*
 * The features that cpuid_mask.c knows, as tables.
 */
#ifndef STRATA_MACHINE_CPUID_NAMES_H
#define STRATA_MACHINE_CPUID_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/cpuid_features.h"

/* Words' names by bit, NULL where there is none that may be masked. */
extern const char *const cpuid_names[CPUID_WORDS][32];

static inline const char *cpuid_name(unsigned feature)
{
    return cpuid_names[feature / 32][feature % 32];
}

/* A feature that makes no sense without another. */
struct cpuid_dependency {
    uint16_t feature, needs; /* enum cpuid_feature */
};

#define CPUID_DEPENDENCIES_MAX 63
extern const struct cpuid_dependency cpuid_dependencies[]; /* up to a CPUID_NO_FEATURE */

struct cpuid_template {
    const char *name;
    bool all_but;             /* shows all but these; otherwise these and no others */
    const uint16_t *features; /* enum cpuid_feature, up to a CPUID_NO_FEATURE */
};

extern const struct cpuid_template cpuid_templates[]; /* up to a NULL */

#endif
