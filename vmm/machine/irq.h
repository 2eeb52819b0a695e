/*
 * Interrupts: KVM's in-kernel chip (two PICs, IOAPIC, a local APIC for each vCPU).
 */
#ifndef STRATA_MACHINE_IRQ_H
#define STRATA_MACHINE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct vm;

/* Creates the chip: after the memory slots, before the first vCPU. 0 or -errno. */
int irq_create(struct vm *vm);

/*
 * Masks the first PIC, and with it the second, as firmware leaves them: KVM's are open, with
 * vectors from 0 on, where a kernel that has no use for them expects exceptions. One that
 * has initialises them, which unmasks all (8259A data sheet, ICW1). After irq_create. 0 or
 * -errno.
 */
int irq_mask_pic(struct vm *vm);

/*
 * Sets the level of a line (GSI 0 to 23: IOAPIC pins, 0 to 15 also PIC inputs). An
 * edge is a 0 followed by a 1. From any thread. 0 or -errno.
 */
int irq_line(struct vm *vm, unsigned gsi, bool level);

/*
 * Signals a message (Intel SDM vol. 3, 11.11): `address` in the window from 0xfee00000
 * on names the local APICs, `data` vector and mode. From any thread. 0, -EAGAIN: no
 * local APIC takes it; else -errno.
 */
int irq_msi(struct vm *vm, uint64_t address, uint32_t data);

/*
 * KVM's interval timer: ports 0x40 to 0x43 and 0x61, which it answers itself from then on,
 * and GSI 0. At any time after irq_create, on any thread; -EEXIST: there is one. Get and
 * set need it. 0 or -errno.
 */
struct kvm_pit_state2;
int irq_pit_create(struct vm *vm);
int irq_pit_get(struct vm *vm, struct kvm_pit_state2 *state);
int irq_pit_set(struct vm *vm, const struct kvm_pit_state2 *state);

#endif
