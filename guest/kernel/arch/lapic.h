/* The local APIC of each CPU and the IOAPIC (Intel SDM vol. 3A, ch. 11; 82093AA). */
#ifndef STRATA_KERNEL_ARCH_LAPIC_H
#define STRATA_KERNEL_ARCH_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

/* Turns on the local APIC of the CPU this runs on. */
void lapic_setup(void);

uint32_t lapic_id(void);
void lapic_end_of_interrupt(void);

/* One timer interrupt after about so many nanoseconds; 0 stops the timer. */
void lapic_timer(uint32_t ns);

/*
 * The timer interrupts by this vector from now on: after so many nanoseconds, or at the time
 * stamp in the MSR IA32_TSC_DEADLINE. Whatever it was to do is forgotten.
 */
void lapic_timer_mode(uint8_t vector, bool deadline);

/* Takes only interrupts of a higher class (bits 7 to 4) than this vector's; 0: all. */
void lapic_priority(uint8_t vector);

/* Sends an interrupt, or INIT and a start-up at page << 12, to another CPU. */
void lapic_send(uint32_t apic_id, uint8_t vector);
void lapic_start(uint32_t apic_id, uint8_t page);

/*
 * Silences the old PICs (8259A): a GSI must not raise its PIC vector as well, and
 * firmware may have left an interrupt pending there.
 */
void pic_off(void);

/* Routes a GSI, edge- or level-triggered, active high, to a CPU. */
void ioapic_route(uint32_t gsi, uint8_t vector, bool level, uint32_t apic_id);

#endif
