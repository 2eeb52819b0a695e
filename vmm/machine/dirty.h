/*
 * Which pages of a memory slot the guest has written: KVM's dirty log, as a bitmap for each
 * slot (api.rst, KVM_GET_DIRTY_LOG) or as a ring for each vCPU (KVM_CAP_DIRTY_LOG_RING, which
 * the VM must have been created with). Only while no vCPU runs. 0 or -errno.
 */
#ifndef STRATA_MACHINE_DIRTY_H
#define STRATA_MACHINE_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory;
struct vcpu;
struct vm;

/* Has KVM log what is written to that slot from now on, or not any more. */
int dirty_log(struct memory *memory, unsigned slot, bool on);

/*
 * Fetches and clears the slot's bitmap: the pages are told once. *pages: how many of
 * [gpa, gpa + bytes), which lies in the slot, were written since.
 */
int dirty_bitmap(const struct memory *memory, unsigned slot, uint64_t gpa, uint64_t bytes,
                 uint64_t *pages);

struct dirty_ring {
    struct kvm_dirty_gfn *entries; /* mapped */
    uint32_t count;                /* a power of two */
    uint32_t next;                 /* the first not harvested yet, counted on and on */
};

/* The ring of a vCPU; bytes: the VM's params.dirty_ring_bytes. */
int dirty_ring_open(struct dirty_ring *ring, const struct vcpu *vcpu, uint32_t bytes);
void dirty_ring_close(struct dirty_ring *ring);

/* Takes all entries, and lets KVM reuse them: as dirty_bitmap. */
int dirty_ring_harvest(struct dirty_ring *ring, const struct vm *vm, unsigned slot, uint64_t gpa,
                       uint64_t bytes, uint64_t *pages);

#endif
