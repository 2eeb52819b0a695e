#include "devices/legacy/pvpanic.h"

#include "devices/core/device.h"
#include "vmm/machine/vm.h"

static uint64_t pvpanic_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    (void)owner;
    (void)vcpu;
    (void)offset;
    (void)size;
    return PVPANIC_PANICKED | PVPANIC_CRASHED;
}

static void pvpanic_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                          uint64_t value)
{
    struct pvpanic *pvpanic = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    if (value & PVPANIC_PANICKED)
        vm_stop(pvpanic->vm, VM_END_GUEST_PANIC, 1);
}

int pvpanic_create(struct pvpanic *pvpanic, struct vm *vm)
{
    *pvpanic = (struct pvpanic){
        .vm = vm,
        .region = { .base = PVPANIC_PORT,
                    .len = 1,
                    .owner = pvpanic,
                    .read = pvpanic_read,
                    .write = pvpanic_write },
    };
    return bus_add(&vm->pio, &pvpanic->region);
}

static bool pvpanic_describe(const void *model, struct device_node *node)
{
    const struct pvpanic *pvpanic = model;

    node->hid = "QEMU0001";
    node->port = pvpanic->region.base;
    node->bytes = pvpanic->region.len;
    return true;
}

const struct device_ops pvpanic_ops = { .name = "pvpanic", .describe = pvpanic_describe };
