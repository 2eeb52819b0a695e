/*
 * Opening KVM for a command: what to tell people when it cannot be had.
 */
#ifndef STRATA_CLI_KVM_ACCESS_H
#define STRATA_CLI_KVM_ACCESS_H

#include "vmm/machine/kvm.h"

/* One line about why KVM is not usable (-errno of kvm_open) and what to do about it. */
const char *kvm_remedy(int error);

/*
 * Opens KVM, identified if wanted, or ends the process with that line and status 3.
 */
void kvm_open_or_exit(struct kvm_host *host, bool identify);

#endif
