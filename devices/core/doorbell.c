#include "devices/core/doorbell.h"

#include <sched.h>

#include "guest/abi/machine.h"
#include "vmm/machine/vm.h"

static void count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static uint64_t doorbell_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct doorbell *doorbell = owner;

    (void)vcpu;
    if (size == 4 && offset == 0)
        return ABI_DOORBELL_MAGIC;
    if (size != 4 || offset % 4)
        count(&doorbell->bad_accesses);
    return ~0ull;
}

static void doorbell_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                           uint64_t value)
{
    struct doorbell *doorbell = owner;

    if (size != 4) {
        count(&doorbell->bad_accesses);
        return;
    }
    switch (offset) {
    case ABI_DOORBELL_CHECKPOINT:
        count(&doorbell->rings);
        if (doorbell->checkpoint &&
            doorbell->checkpoint(doorbell->checkpoint_owner, vcpu, (uint32_t)value))
            count(&doorbell->failed_rings);
        break;
    case ABI_DOORBELL_EXIT: vm_stop(doorbell->vm, VM_END_GUEST_EXIT, (int)(value & 0xff)); break;
    case ABI_DOORBELL_YIELD:
        count(&doorbell->yields);
        sched_yield();
        break;
    case ABI_DOORBELL_PANIC: vm_stop(doorbell->vm, VM_END_GUEST_PANIC, 1); break;
    default: count(&doorbell->bad_accesses); break;
    }
}

int doorbell_create(struct doorbell *doorbell, struct vm *vm, doorbell_callback *checkpoint,
                    void *checkpoint_owner)
{
    *doorbell = (struct doorbell){
        .vm = vm,
        .checkpoint = checkpoint,
        .checkpoint_owner = checkpoint_owner,
        .region = { .base = ABI_DOORBELL_PORT,
                    .len = ABI_DOORBELL_BYTES,
                    .owner = doorbell,
                    .read = doorbell_read,
                    .write = doorbell_write },
    };
    return bus_add(&vm->pio, &doorbell->region);
}
