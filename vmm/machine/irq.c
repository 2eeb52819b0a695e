#include "vmm/machine/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

int irq_create(struct vm *vm)
{
    return ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0 ? -errno : 0;
}

int irq_line(struct vm *vm, unsigned gsi, bool level)
{
    struct kvm_irq_level line = { .irq = gsi, .level = level };

    return ioctl(vm->fd, KVM_IRQ_LINE, &line) < 0 ? -errno : 0;
}

int irq_msi(struct vm *vm, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = { .address_lo = (uint32_t)address,
                           .address_hi = (uint32_t)(address >> 32),
                           .data = data };
    int delivered = ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);

    if (delivered < 0)
        return -errno;
    return delivered ? 0 : -EAGAIN;
}
