/*
 * Opening KVM for a command.
 */
#ifndef STRATA_CLI_KVM_ACCESS_H
#define STRATA_CLI_KVM_ACCESS_H

#include "vmm/machine/kvm.h"

/*
 * Opens KVM, identified if wanted, or ends the process with one line (kvm_remedy.h) and status 3.
 */
void kvm_open_or_exit(struct kvm_host *host, bool identify);

#endif
