#include "vmm/machine/ioeventfd.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

int ioeventfd_add(struct vm *vm, uint64_t gpa, uint32_t value, int fd)
{
    struct kvm_ioeventfd event = { .datamatch = value,
                                   .addr = gpa,
                                   .len = sizeof(value),
                                   .fd = fd,
                                   .flags = KVM_IOEVENTFD_FLAG_DATAMATCH };

    return ioctl(vm->fd, KVM_IOEVENTFD, &event) < 0 ? -errno : 0;
}
