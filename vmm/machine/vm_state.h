/*
 * What KVM knows of a VM beside its vCPUs (vcpu_state.h) and memory: interrupt controllers,
 * interval timer and clock. Plain data, as a vCPU's.
 */
#ifndef STRATA_MACHINE_VM_STATE_H
#define STRATA_MACHINE_VM_STATE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

struct vm;

#define VM_STATE_VERSION 1u

/* What not every VM or KVM has. */
#define VM_STATE_PIT   1u /* irq_pit_create */
#define VM_STATE_CLOCK 2u

struct vm_state {
    uint32_t version;            /* VM_STATE_VERSION */
    uint32_t parts;              /* a mask of those above */
    struct kvm_irqchip chips[3]; /* both PICs and the IOAPIC */
    struct kvm_pit_state2 pit;
    uint64_t clock_ns; /* kvmclock's, when it was read */
};

/* While the VM is paused. 0; or -errno, and `why` says what could not be read. */
int vm_state_get(const struct vm *vm, struct vm_state *state, char *why, size_t why_bytes);

/*
 * Into a VM that does not run, with an interval timer if there was one, before its vCPUs get
 * their state. 0; -EINVAL: another version; or -errno, and `why` says what could not be set.
 */
int vm_state_set(const struct vm *vm, const struct vm_state *state, char *why, size_t why_bytes);

#endif
