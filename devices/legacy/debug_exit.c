#include "devices/legacy/debug_exit.h"

#include "vmm/machine/vm.h"

static uint64_t debug_exit_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    (void)owner;
    (void)vcpu;
    (void)offset;
    (void)size;
    return 0;
}

static void debug_exit_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                             uint64_t value)
{
    struct debug_exit *debug_exit = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    vm_stop(debug_exit->vm, VM_END_GUEST_EXIT, (int)((value << 1 | 1) & 0xff));
}

int debug_exit_create(struct debug_exit *debug_exit, struct vm *vm, uint16_t port)
{
    *debug_exit = (struct debug_exit){
        .vm = vm,
        .region = { .base = port,
                    .len = DEBUG_EXIT_PORT_BYTES,
                    .owner = debug_exit,
                    .read = debug_exit_read,
                    .write = debug_exit_write },
    };
    return bus_add(&vm->pio, &debug_exit->region);
}
