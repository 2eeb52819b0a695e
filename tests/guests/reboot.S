/* Resets the machine by the keyboard controller, as kernels do. */
#include "tests/guests/pvh.h"

PVH_KERNEL reboot_start

reboot_start:
    SAY reboot
    mov $0xfe, %al
    out %al, $0x64
1:  hlt
    jmp 1b
