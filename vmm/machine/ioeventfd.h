/*
 * Writes of the guest that KVM turns into a signal of an eventfd, without an exit (Linux,
 * Documentation/virt/kvm/api.rst, KVM_IOEVENTFD).
 */
#ifndef STRATA_MACHINE_IOEVENTFD_H
#define STRATA_MACHINE_IOEVENTFD_H

#include <stdint.h>

struct vm;

/*
 * From now on a write of this 32-bit value to gpa signals fd, also while the guest runs. It
 * lasts until the VM is destroyed. 0 or -errno.
 */
int ioeventfd_add(struct vm *vm, uint64_t gpa, uint32_t value, int fd);

#endif
