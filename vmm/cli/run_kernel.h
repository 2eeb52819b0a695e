/*
 * A look at the kernel that `strata run` was given, before there is a machine.
 */
#ifndef STRATA_CLI_RUN_KERNEL_H
#define STRATA_CLI_RUN_KERNEL_H

struct run_options;

/*
 * STATUS_OK, and what is left to the kernel's format is filled in; or after a line on
 * standard error STATUS_USAGE (no kernel that can be started), or STATUS_NO_KVM: it is
 * one that cannot work on this host's KVM, and nobody said --force.
 */
int run_kernel_check(struct run_options *options);

/* The same but for this host: never STATUS_NO_KVM. */
int run_kernel_resolve(struct run_options *options);

#endif
