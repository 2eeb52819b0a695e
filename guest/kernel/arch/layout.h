/* Where things lie in virtual memory. For C and assembler. */
#ifndef STRATA_KERNEL_ARCH_LAYOUT_H
#define STRATA_KERNEL_ARCH_LAYOUT_H

/*
 * The kernel uses only the top slot of the PML4: all RAM at DIRECT_MAP, and the
 * image, linked at its physical address + KERNEL_OFFSET. User space is the lower
 * half. (A host that shadows our tables in software may not offer the slots in
 * between.)
 */
#define DIRECT_MAP       0xffffff8000000000
#define KERNEL_OFFSET    0xffffffff80000000

#define USER_END         0x7fffffff0000
#define USER_MMAP_BASE   0x100000000
#define USER_STACK_TOP   0x7fffffe00000
#define USER_STACK_BYTES 0x100000

/* What the boot page tables map; the image and the first frames must fit. */
#define BOOT_MAPPED_BYTES 0x1000000

/* A page below 1 MiB for the first instructions of the other CPUs. */
#define AP_TRAMPOLINE 0x8000

/* Selectors; the order of the user ones is what sysret wants. */
#define SELECTOR_KERNEL_CODE 0x08
#define SELECTOR_KERNEL_DATA 0x10
#define SELECTOR_USER_DATA   0x1b
#define SELECTOR_USER_CODE   0x23
#define SELECTOR_TSS         0x28

#define CPUS_MAX             16

#define RFLAGS_IF            0x200 /* interrupts are on */

/*
 * Interrupt vectors. Devices have the lowest priority (bits 7 to 4): one that never stops
 * interrupting must not keep the clock and the console out.
 */
#define VECTOR_DEVICE       0x20 /* and the next ones: interrupt lines of devices */
#define VECTOR_POLL         0x28 /* and the next ones: the same by device_poll */
#define VECTOR_DEVICE_LINES 8
#define VECTOR_TIMER        0x30
#define VECTOR_SERIAL       0x34
#define VECTOR_WAKE         0x40
#define VECTOR_STRAY        0x50 /* and the next ones: whoever sends them is up to no good */
#define VECTOR_NO_MORE      0xf0
#define VECTOR_MEASURE      0xf0 /* SYS_MEASURE's, above all others so that it can shut them out */
#define VECTOR_ECHO         0xf1
#define VECTOR_SPURIOUS     0xff
/* In the vector field of struct regs: it came by `syscall`, and may go back by sysret. */
#define VECTOR_SYSCALL 0x100

#endif
