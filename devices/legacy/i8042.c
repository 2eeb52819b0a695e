#include "devices/legacy/i8042.h"

#include "vmm/machine/vm.h"

static uint64_t i8042_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    (void)owner;
    (void)vcpu;
    (void)offset;
    (void)size;
    return I8042_STATUS_IDLE;
}

static void i8042_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                        uint64_t value)
{
    struct i8042 *i8042 = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    if ((value & 0xff) == I8042_RESET)
        vm_stop(i8042->vm, VM_END_GUEST_RESET, 0);
}

int i8042_create(struct i8042 *i8042, struct vm *vm)
{
    *i8042 = (struct i8042){
        .vm = vm,
        .region = { .base = I8042_PORT,
                    .len = 1,
                    .owner = i8042,
                    .read = i8042_read,
                    .write = i8042_write },
    };
    return bus_add(&vm->pio, &i8042->region);
}
