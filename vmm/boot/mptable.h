/*
 * CPUs and interrupts for kernels without ACPI (Intel MultiProcessor Specification 1.4,
 * chapter 4): the floating pointer, and the configuration table behind it.
 */
#ifndef STRATA_BOOT_MPTABLE_H
#define STRATA_BOOT_MPTABLE_H

#include <stddef.h>
#include <stdint.h>

#include "devices/core/board.h"
#include "vmm/base/error.h"

struct vm;

/*
 * Writes the tables of a machine with these CPUs (APIC ids from 0 on) to `to`, which the
 * guest will see at `gpa`, the floating pointer first. Pins of the IOAPIC that a device of
 * `nodes` uses have its sense; the others of the ISA's are edges, active high. How many
 * bytes they take; -ENOSPC: more than there is room for; -ERANGE: too many CPUs.
 */
int mptable_build(void *to, size_t bytes, uint64_t gpa, unsigned ncpus,
                  const struct device_node *nodes, unsigned count);

/* The same into guest memory at LAYOUT_MPTABLE_GPA, where kernels look for it. */
int mptable_write(struct vm *vm, const struct board *board, struct error *error);

#endif
