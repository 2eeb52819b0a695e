/*
 * The way in: PVH hands over a 32-bit CPU with flat segments, paging off and the
 * address of hvm_start_info in ebx (Xen docs/misc/pvh). This code turns on long
 * mode with page tables that were assembled, not computed, and jumps to kernel_main
 * in the higher half. Other CPUs come in by a start-up IPI at ap_trampoline's copy.
 */
#include "guest/kernel/arch/layout.h"

#define CR0_PE (1 << 0)
#define CR0_WP (1 << 16)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_PGE (1 << 7)
#define CR4_OSFXSR (1 << 9)
#define CR4_OSXMMEXCPT (1 << 10)
#define MSR_EFER 0xc0000080
#define EFER_SCE (1 << 0)
#define EFER_LME (1 << 8)
#define EFER_NXE (1 << 11)
#define PHYS(x) ((x) - KERNEL_OFFSET)

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long PHYS(start32)

    .section .text
    .code32
    .globl start32
start32:
    cld
    mov $PHYS(boot_stack_top), %esp
    call long_mode_on
    lgdt PHYS(boot_gdt_pointer)
    ljmp $0x08, $PHYS(start64_low)

/* Paging and long mode on, by boot_pml4. Loses eax, ecx, edx. */
long_mode_on:
    mov $(CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    mov %eax, %cr4
    mov $PHYS(boot_pml4), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    mov $(EFER_SCE | EFER_LME | EFER_NXE), %eax
    xor %edx, %edx
    wrmsr
    mov $(CR0_PG | CR0_WP | CR0_PE | 0x32), %eax /* MP, ET, NE: an FPU there */
    mov %eax, %cr0
    ret

    .code64
start64_low:
    mov $boot_stack_top, %rsp
    xor %eax, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov %ebx, %edi
    xor %ebp, %ebp
    mov $kernel_main, %rax
    call *%rax
1:  hlt
    jmp 1b

/*
 * Copied to AP_TRAMPOLINE: real mode, cs:ip = AP_TRAMPOLINE/16:0. Nothing here may
 * refer to its own address other than by AP_TRAMPOLINE.
 */
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl AP_TRAMPOLINE + (ap_gdt_pointer - ap_trampoline)
    mov %cr0, %eax
    or $CR0_PE, %eax
    mov %eax, %cr0
    ljmpl $0x18, $AP_TRAMPOLINE + (ap32 - ap_trampoline)
    .code32
ap32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $(AP_TRAMPOLINE + 0xff0), %esp
    mov $PHYS(long_mode_on), %eax
    call *%eax
    ljmp $0x08, $PHYS(ap64)
    .balign 4
ap_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)
ap_trampoline_end:

    .code64
ap64:
    mov $ap64_high, %rax
    jmp *%rax
ap64_high:
    /* The stack is anywhere in the direct map, of which the boot tables know little. */
    mov $PHYS(kernel_pml4), %eax
    mov %rax, %cr3
    mov ap_boot_stack, %rsp
    xor %ebp, %ebp
    mov $ap_main, %rax
    call *%rax
1:  hlt
    jmp 1b

    .section .rodata
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff /* 0x08: 64-bit code */
    .quad 0x00cf92000000ffff /* 0x10: data */
    .quad 0x00cf9a000000ffff /* 0x18: 32-bit code */
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)

/*
 * Boot page tables: the first BOOT_MAPPED_BYTES, at their own address (for the
 * jump) and at KERNEL_OFFSET. Kept for the other CPUs' start.
 */
    .section .data.page, "aw"
    .balign 4096
    .globl boot_pml4
boot_pml4:
    .quad PHYS(boot_pdpt) + 3
    .fill 510, 8, 0
    .quad PHYS(boot_pdpt) + 3
boot_pdpt:
    .quad PHYS(boot_pd) + 3
    .fill 509, 8, 0
    .quad PHYS(boot_pd) + 3
    .quad 0
boot_pd:
    .set i, 0
    .rept BOOT_MAPPED_BYTES / 0x200000
    .quad (i << 21) + 0x83
    .set i, i + 1
    .endr
    .fill 512 - BOOT_MAPPED_BYTES / 0x200000, 8, 0

    .section .bss
    .balign 16
    .fill 8192
    .globl boot_stack_top
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
