/*
 * Handlers of what is being measured. They must know no lock and no CPU, so that they may
 * come anywhere, and look at the clock first. Offsets are asserted in measure.c.
 */
#include "guest/abi/machine.h"
#include "guest/kernel/arch/layout.h"

#define AREA_STAMP 0
#define AREA_REACHED 8
#define LAPIC (DIRECT_MAP + 0xfee00000)
#define LAPIC_EOI 0xb0
#define LAPIC_ICR_LOW 0x300
#define LAPIC_ICR_HIGH 0x310
#define ICR_FIXED 0x4000

    .text

    .globl measure_entry
measure_entry:
    push %rax
    push %rdx
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, measure_area + AREA_STAMP(%rip)
    incl measure_area + AREA_REACHED(%rip)
    movabs $LAPIC, %rdx
end_of_interrupt:
    movl $0, LAPIC_EOI(%rdx)
    /* It came between sti and hlt: trap_kernel tells why not to halt then. */
    lea measure_halt(%rip), %rax
    cmp %rax, 16(%rsp)
    jne 1f
    lea measure_over(%rip), %rax
    mov %rax, 16(%rsp)
1:  pop %rdx
    pop %rax
    iretq

/* Sends one back to the CPU that asked. */
    .globl measure_echo
measure_echo:
    push %rax
    push %rdx
    movabs $LAPIC, %rdx
    mov measure_echo_to(%rip), %eax
    mov %eax, LAPIC_ICR_HIGH(%rdx)
    movl $(ICR_FIXED | VECTOR_MEASURE), LAPIC_ICR_LOW(%rdx)
    jmp end_of_interrupt

/* uint64_t measure_sleep(void): until an interrupt; the clock right after hlt. */
    .globl measure_sleep
measure_sleep:
    sti
measure_halt:
    hlt
measure_over:
    rdtsc
    cli
    shl $32, %rdx
    or %rdx, %rax
    ret

    .section .note.GNU-stack, "", @progbits
