#include "vmm/cli/kvm_access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/options.h"
#include "vmm/doctor/kvm_remedy.h"

void kvm_open_or_exit(struct kvm_host *host, bool identify)
{
    int err = identify ? kvm_open(host) : kvm_open_device(host);

    if (!err)
        return;
    fprintf(stderr, "strata: /dev/kvm: %s; %s\n", strerror(-err), kvm_remedy(err));
    exit(STATUS_NO_KVM);
}
