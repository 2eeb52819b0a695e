/*
 * The hypercall port: how the bundled guest speaks to strata (guest/abi/machine.h). It
 * reaches checkpoints, ends the machine, gives up the CPU and reports a panic.
 */
#ifndef STRATA_CORE_HYPERCALL_PORT_H
#define STRATA_CORE_HYPERCALL_PORT_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/machine/bus.h"

struct device_ops;
struct vm;
struct vcpu;

/*
 * Called on the ringing vCPU's thread with the frame number the guest wrote, which
 * may be anything; the guest goes on when it returns. What it returns is counted as
 * a failure when it is not 0, and is otherwise without effect.
 */
typedef int hypercall_port_callback(void *owner, struct vcpu *vcpu, uint32_t frame);

struct hypercall_port {
    struct vm *vm;
    hypercall_port_callback *checkpoint; /* NULL: a ring does nothing */
    void *checkpoint_owner;
    atomic_ullong rings, failed_rings, yields;
    atomic_ullong bad_accesses; /* of another size than 4 bytes, or misaligned */
    struct bus_region region;
};

/* Puts the hypercall port on the VM's port bus. 0 or -errno. */
int hypercall_port_create(struct hypercall_port *hypercall_port, struct vm *vm,
                          hypercall_port_callback *checkpoint, void *checkpoint_owner);

/* How it is described. */
extern const struct device_ops hypercall_port_ops;

#endif
