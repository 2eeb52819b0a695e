#include "vmm/machine/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

int irq_create(struct vm *vm)
{
    return ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0 ? -errno : 0;
}

int irq_mask_pic(struct vm *vm)
{
    struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_PIC_MASTER };

    if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip) < 0)
        return -errno;
    chip.chip.pic.imr = 0xff;
    return ioctl(vm->fd, KVM_SET_IRQCHIP, &chip) < 0 ? -errno : 0;
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

int irq_pit_create(struct vm *vm)
{
    /* The speaker's port has the timer's gate and output, so it belongs to it. */
    struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };

    return ioctl(vm->fd, KVM_CREATE_PIT2, &config) < 0 ? -errno : 0;
}

int irq_pit_get(struct vm *vm, struct kvm_pit_state2 *state)
{
    return ioctl(vm->fd, KVM_GET_PIT2, state) < 0 ? -errno : 0;
}

int irq_pit_set(struct vm *vm, const struct kvm_pit_state2 *state)
{
    return ioctl(vm->fd, KVM_SET_PIT2, state) < 0 ? -errno : 0;
}
