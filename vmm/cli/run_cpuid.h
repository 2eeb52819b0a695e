/*
 * `strata run --cpuid`: which features of the CPU the guest gets to see, by wish and, on
 * hosts known to need it, without.
 */
#ifndef STRATA_CLI_RUN_CPUID_H
#define STRATA_CLI_RUN_CPUID_H

#include "vmm/cli/options.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/kvm.h"

struct vm;

/* What was asked for, and not; `asked` is false until then. */
struct run_cpuid {
    bool asked;
    struct cpuid_mask mask;
};

/*
 * Reads a list like "x86-64-v2,+avx,-rdrand", which may be changed. Does not return
 * where it is wrong.
 */
void run_cpuid_parse(struct run_cpuid *cpuid, const struct command_line *line, char *list);

/*
 * Whether this KVM can do what was asked for. 0, or an exit status after one line on
 * standard error.
 */
int run_cpuid_check(const struct run_cpuid *cpuid, struct kvm_host *host);

/* A line about what is hidden from this VM's guest unasked, if anything. Once it is set up. */
void run_cpuid_explain(const struct vm *vm);

#endif
