#include "vmm/machine/irqfd.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

#define PIC_PINS    8
#define IOAPIC_PINS 24
#define MSI_GSI     IOAPIC_PINS /* the first that is no line */

/* struct kvm_irq_routing with room for its entries. */
struct routes {
    uint32_t nr, flags;
    struct kvm_irq_routing_entry entries[2 * PIC_PINS + IOAPIC_PINS + 1];
};

static void add_pin(struct routes *routes, uint32_t gsi, uint32_t chip, uint32_t pin)
{
    routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
        .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { .irqchip = chip, .pin = pin }
    };
}

int irqfd_add_msi(struct vm *vm, int fd, uint64_t address, uint32_t data)
{
    struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = MSI_GSI };
    struct routes routes = { 0 };

    /* A table replaces the one before: the lines as KVM_CREATE_IRQCHIP has them. */
    for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        add_pin(&routes, gsi, KVM_IRQCHIP_IOAPIC, gsi);
        if (gsi < 2 * PIC_PINS)
            add_pin(&routes, gsi, gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                    gsi % PIC_PINS);
    }
    routes.entries[routes.nr++] = (struct kvm_irq_routing_entry){
        .gsi = MSI_GSI,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = { .address_lo = (uint32_t)address,
                   .address_hi = (uint32_t)(address >> 32),
                   .data = data },
    };
    if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routes) < 0 || ioctl(vm->fd, KVM_IRQFD, &irqfd) < 0)
        return -errno;
    return 0;
}
