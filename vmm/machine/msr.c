#include "vmm/machine/msr.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

int msr_take_reads(struct vm *vm, const struct msr_reader *reader)
{
    uint8_t denied = 0; /* a bit for each register: 0 */
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
        .ranges = { { .flags = KVM_MSR_FILTER_READ,
                      .nmsrs = 1,
                      .base = reader->index,
                      .bitmap = &denied } },
    };
    struct kvm_enable_cap enable = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
                                     .args = { KVM_MSR_EXIT_REASON_FILTER } };

    if (kvm_capability(vm->host, KVM_CAP_X86_USER_SPACE_MSR) <= 0 ||
        kvm_capability(vm->host, KVM_CAP_X86_MSR_FILTER) <= 0)
        return -ENOTSUP;
    if (ioctl(vm->fd, KVM_ENABLE_CAP, &enable) < 0 ||
        ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter) < 0)
        return -errno;
    vm->msr_reader = reader;
    return 0;
}

void msr_read_exit(struct vcpu *vcpu)
{
    const struct msr_reader *reader = vcpu->vm->msr_reader;
    struct kvm_run *run = vcpu->run;
    bool known = reader && run->msr.index == reader->index;

    run->msr.error = !known;
    run->msr.data = known ? reader->read(reader->owner, vcpu) : 0;
}
