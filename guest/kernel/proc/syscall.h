/* System calls: the table of guest/abi/syscall.h. */
#ifndef STRATA_KERNEL_PROC_SYSCALL_H
#define STRATA_KERNEL_PROC_SYSCALL_H

#include "guest/kernel/proc/process.h"

/*
 * Runs the call in p's registers, rip already behind the gate's instruction, and
 * leaves the result in rax, or the process blocked, gone, or at the back of the queue.
 */
void syscall(struct process *p);

#endif
