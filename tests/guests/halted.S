/* Two vCPUs, the second started by INIT and SIPI; both end in HLT with interrupts off. */
#include "tests/guests/pvh.h"

#define LAPIC_ICR_LOW  (ABI_LAPIC_GPA + 0x300)
#define ICR_OTHERS     0xc0000
#define ICR_INIT       0x4500
#define ICR_SIPI       0x4600
#define TRAMPOLINE     0x8000

PVH_KERNEL halted_start

halted_start:
    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $(trampoline_end - trampoline), %ecx
    rep movsb
    movl $(ICR_OTHERS | ICR_INIT), LAPIC_ICR_LOW
    movl $(ICR_OTHERS | ICR_SIPI | TRAMPOLINE >> 12), LAPIC_ICR_LOW
    sti /* see spin.S */
1:  cmpl $1, TRAMPOLINE + flag - trampoline
    jne 1b
    SAY halted
    cli
2:  hlt
    jmp 2b

    .code16
trampoline:
    cli
    movl $1, %cs:flag - trampoline
3:  hlt
    jmp 3b
    .balign 4
flag:
    .long 0
trampoline_end:
