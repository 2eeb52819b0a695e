/*
 * What a configuration says about the features of the CPU that a guest sees: a list like
 * "x86-64-v2,+avx,-rdrand".
 */
#ifndef STRATA_LAUNCH_CONFIG_CPUID_H
#define STRATA_LAUNCH_CONFIG_CPUID_H

#include "vmm/base/error.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/kvm.h"

#define CONFIG_FIELD_CPUID "machine-config.cpuid"

/* Reads the list: 0, or -EINVAL and what is wrong with it. */
int config_cpuid_parse(struct cpuid_mask *mask, const char *list, struct error *error);

/*
 * Whether this KVM can do what was asked for: 0; -EINVAL: it cannot; else -errno of asking
 * it. With an error.
 */
int config_cpuid_check(const struct cpuid_mask *mask, struct kvm_host *host, struct error *error);

#endif
