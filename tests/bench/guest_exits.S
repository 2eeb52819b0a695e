/*
 * Times BENCH_BATCHES batches of BENCH_BATCH port reads that the VMM must answer,
 * by the guest's own clock, and prints each as a line of eight letters: 'a' + the
 * digits of the TSC difference, base 16, highest first. The reads stand in a row,
 * without a loop, because some hosts interpret each instruction that comes between.
 */
#include "guest/abi/machine.h"
#include "tests/bench/exits.h"
#include "tests/guests/pvh.h"

PVH_KERNEL exits_start

    .globl exits_start, exits_end
exits_start:
    mov $BENCH_BATCHES, %ebp
batch:
    rdtsc
    mov %eax, %esi
    mov $ABI_HYPERCALL_PORT, %edx
    .rept BENCH_BATCH
    in (%dx), %eax
    .endr
    rdtsc
    sub %esi, %eax

    mov %eax, %ebx
    mov $ABI_SERIAL_PORT, %edx
    mov $8, %ecx
digit:
    rol $4, %ebx
    mov %ebx, %eax
    and $15, %eax
    add $'a', %eax
    out %al, (%dx)
    dec %ecx
    jnz digit
    mov $'\n', %al
    out %al, (%dx)
    dec %ebp
    jnz batch

    mov $(ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT), %edx
    xor %eax, %eax
    out %eax, (%dx)
1:  hlt
    jmp 1b
exits_end:
