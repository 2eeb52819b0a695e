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
