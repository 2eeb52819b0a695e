/*
 * A thread that works for the guest beside its vCPUs. It stands still when they do: while
 * the world is paused (vm_pause) it is outside worker_enter and worker_leave, between which
 * alone it may touch what belongs to the guest.
 */
#ifndef STRATA_MACHINE_WORKER_H
#define STRATA_MACHINE_WORKER_H

#include <stdbool.h>

#include "vmm/machine/vcpu.h"

struct worker {
    struct vcpu cpu; /* what the VM and devices know it by (vcpu_park); KVM does not */
    void (*body)(void *arg);
    void *arg;
};

/*
 * Starts body(arg) on a thread of its own; a VM has room for one. The body is to return soon
 * after vm->end_fd is readable. 0 or -errno, -EBUSY: the VM has one.
 */
int worker_start(struct worker *worker, struct vm *vm, void (*body)(void *arg), void *arg);

/* Waits for it: after the VM has been told to stop. */
void worker_join(struct worker *worker);

/* On its own thread. False: the VM is ending; worker_leave is to be called all the same. */
bool worker_enter(struct worker *worker);
void worker_leave(struct worker *worker);

#endif
