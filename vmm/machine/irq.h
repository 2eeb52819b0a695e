/*
 * Interrupts: KVM's in-kernel chip (two PICs, IOAPIC, a local APIC for each vCPU).
 */
#ifndef STRATA_MACHINE_IRQ_H
#define STRATA_MACHINE_IRQ_H

#include <stdbool.h>

struct vm;

/* Creates the chip: after the memory slots, before the first vCPU. 0 or -errno. */
int irq_create(struct vm *vm);

/*
 * Sets the level of a line (GSI 0 to 23: IOAPIC pins, 0 to 15 also PIC inputs). An
 * edge is a 0 followed by a 1. From any thread. 0 or -errno.
 */
int irq_line(struct vm *vm, unsigned gsi, bool level);

#endif
