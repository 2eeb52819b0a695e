/*
 * `strata run --cpuid`: which features of the CPU the guest gets to see, by wish and, on
 * hosts known to need it, without.
 */
#ifndef STRATA_CLI_RUN_CPUID_H
#define STRATA_CLI_RUN_CPUID_H

#include "vmm/machine/kvm.h"

struct run_options;
struct vm;

/*
 * Whether this KVM can do what was asked for. 0, or an exit status after one line on
 * standard error.
 */
int run_cpuid_check(const struct run_options *options, struct kvm_host *host);

/* A line about what is hidden from this VM's guest unasked, if anything. Once it is set up. */
void run_cpuid_explain(const struct vm *vm);

#endif
