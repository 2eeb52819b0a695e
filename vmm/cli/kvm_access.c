#include "vmm/cli/kvm_access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/options.h"

const char *kvm_remedy(int error)
{
    switch (-error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return "there is no KVM on this machine: load kvm_intel or kvm_amd (modprobe, and "
               "virtualization on in the firmware), or use scripts/emuhost npt -- COMMAND";
    case EACCES:
    case EPERM:
        return "no permission for /dev/kvm: join the group that owns it (usually kvm) or "
               "become root, or use scripts/emuhost npt -- COMMAND";
    case EPROTO:
        return "/dev/kvm speaks another API version than 12: update the kernel, or use "
               "scripts/emuhost npt -- COMMAND";
    case EMFILE:
    case ENFILE: return "give it more file descriptors (ulimit -n)";
    default:
        return "KVM is there but does not work: see dmesg, or use scripts/emuhost npt -- COMMAND";
    }
}

void kvm_open_or_exit(struct kvm_host *host, bool identify)
{
    int err = identify ? kvm_open(host) : kvm_open_device(host);

    if (!err)
        return;
    fprintf(stderr, "strata: /dev/kvm: %s; %s\n", strerror(-err), kvm_remedy(err));
    exit(STATUS_NO_KVM);
}
