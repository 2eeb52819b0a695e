/* Jumps to where there is no memory: KVM cannot emulate what it cannot read. */
#include "tests/guests/pvh.h"

PVH_KERNEL nowhere_start

nowhere_start:
    SAY nowhere
    mov $0xd0000000, %eax
    jmp *%eax
