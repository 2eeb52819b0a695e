#include "devices/core/hypercall_port.h"

#include <sched.h>

#include "devices/core/device.h"
#include "guest/abi/machine.h"
#include "vmm/machine/vm.h"

static void count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static uint64_t hypercall_port_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct hypercall_port *hypercall_port = owner;

    (void)vcpu;
    if (size == 4 && offset == 0)
        return ABI_HYPERCALL_MAGIC;
    if (size != 4 || offset % 4)
        count(&hypercall_port->bad_accesses);
    return ~0ull;
}

static void hypercall_port_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                                 uint64_t value)
{
    struct hypercall_port *hypercall_port = owner;

    if (size != 4) {
        count(&hypercall_port->bad_accesses);
        return;
    }
    switch (offset) {
    case ABI_HYPERCALL_CHECKPOINT:
        count(&hypercall_port->rings);
        if (hypercall_port->checkpoint &&
            hypercall_port->checkpoint(hypercall_port->checkpoint_owner, vcpu, (uint32_t)value))
            count(&hypercall_port->failed_rings);
        break;
    case ABI_HYPERCALL_EXIT:
        vm_stop(hypercall_port->vm, VM_END_GUEST_EXIT, (int)(value & 0xff));
        break;
    case ABI_HYPERCALL_YIELD:
        count(&hypercall_port->yields);
        sched_yield();
        break;
    case ABI_HYPERCALL_PANIC: vm_stop(hypercall_port->vm, VM_END_GUEST_PANIC, 1); break;
    default: count(&hypercall_port->bad_accesses); break;
    }
}

int hypercall_port_create(struct hypercall_port *hypercall_port, struct vm *vm,
                          hypercall_port_callback *checkpoint, void *checkpoint_owner)
{
    *hypercall_port = (struct hypercall_port){
        .vm = vm,
        .checkpoint = checkpoint,
        .checkpoint_owner = checkpoint_owner,
        .region = { .base = ABI_HYPERCALL_PORT,
                    .len = ABI_HYPERCALL_BYTES,
                    .owner = hypercall_port,
                    .read = hypercall_port_read,
                    .write = hypercall_port_write },
    };
    return bus_add(&vm->pio, &hypercall_port->region);
}

static bool hypercall_port_describe(const void *model, struct device_node *node)
{
    const struct hypercall_port *hypercall_port = model;

    node->compatible = ABI_HYPERCALL_COMPATIBLE;
    node->port = hypercall_port->region.base;
    node->bytes = hypercall_port->region.len;
    return true;
}

const struct device_ops hypercall_port_ops = { .name = "hypercall-port",
                                               .describe = hypercall_port_describe };
