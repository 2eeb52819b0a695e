/*
 * Signals of an eventfd that KVM turns into an interrupt, without a system call on a vCPU's
 * way (Linux, Documentation/virt/kvm/api.rst, KVM_IRQFD).
 */
#ifndef STRATA_MACHINE_IRQFD_H
#define STRATA_MACHINE_IRQFD_H

#include <stdint.h>

struct vm;

/*
 * From now on a signal of fd is the message `data` to `address` (as irq_msi), until the VM is
 * destroyed. Once for each VM, whose lines keep their routes; also while the guest runs.
 * 0 or -errno.
 */
int irqfd_add_msi(struct vm *vm, int fd, uint64_t address, uint32_t data);

#endif
