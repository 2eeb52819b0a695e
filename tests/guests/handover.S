/* What a PVH kernel is handed besides memory: its command line, the initrd, ACPI. */
#include "tests/guests/boot.h"

PVH_KERNEL handover_start

/* hvm_start_info */
#define MODULES 16
#define CMDLINE 24
#define RSDP    32

handover_start:
    mov %ebx, %ebp
    SAY handover
    mov CMDLINE(%ebp), %esi
    PUTS
    mov RSDP(%ebp), %eax
    cmpl $0x20445352, (%eax)  /* "RSD " */
    EXPECT e 1
    cmpl $2, 12(%ebp)
    EXPECT e 2
    /* Module 1 is the device tree. */
    mov MODULES(%ebp), %edi
    mov 32(%edi), %eax
    cmpl $0xedfe0dd0, (%eax)
    EXPECT e 3
    mov (%edi), %esi
    mov 8(%edi), %ecx
    PUT_BYTES
    LEAVE ALL_WELL
