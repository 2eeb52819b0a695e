/*
 * A model-specific register that KVM leaves to us: its reads exit (Linux,
 * Documentation/virt/kvm/api.rst, KVM_X86_SET_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR).
 */
#ifndef STRATA_MACHINE_MSR_H
#define STRATA_MACHINE_MSR_H

#include <stdint.h>

struct vcpu;
struct vm;

/* The callback runs on the thread of the vCPU that reads. */
struct msr_reader {
    uint32_t index;
    uint64_t (*read)(void *owner, struct vcpu *vcpu);
    void *owner;
};

/*
 * Once for each VM, before it runs; the reader outlives it. 0; -ENOTSUP: not with this KVM;
 * or -errno.
 */
int msr_take_reads(struct vm *vm, const struct msr_reader *reader);

/* The exit KVM_EXIT_X86_RDMSR: what the reader says, or a general protection fault. */
void msr_read_exit(struct vcpu *vcpu);

#endif
