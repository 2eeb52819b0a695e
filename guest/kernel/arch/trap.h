/* Called by trap.S, with interrupts off. */
#ifndef STRATA_KERNEL_ARCH_TRAP_H
#define STRATA_KERNEL_ARCH_TRAP_H

#include "guest/kernel/arch/cpu.h"

/* From user mode; regs is the current process's. */
void trap_user(struct regs *regs) __attribute__((noreturn));

/* From the idle loop, or an exception that the kernel should not have made. */
void trap_kernel(struct regs *regs);

#endif
