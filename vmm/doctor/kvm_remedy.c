#include "vmm/doctor/kvm_remedy.h"

#include <errno.h>

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
