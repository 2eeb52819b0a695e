/*
 * Round robin: one queue of runnable processes, a slice each. A CPU with nothing to run sleeps
 * without a timer, unless a device waits for a time; making work for it sends an interrupt.
 */
#ifndef STRATA_KERNEL_PROC_SCHED_H
#define STRATA_KERNEL_PROC_SCHED_H

#include <stdbool.h>

#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/proc/process.h"

/* Makes it runnable, at the end of the queue, and wakes an idle CPU for it. */
void sched_ready(struct process *p);

/* Takes it off the queue, if it is there. */
void sched_remove(struct process *p);

/* Whether another process could use this CPU now. */
bool sched_other(const struct cpu *cpu);

/* Runs the next process on this CPU. Another one that was current is saved first. */
void schedule(void) __attribute__((noreturn));

/* Back to the current process. */
void sched_resume(struct process *p) __attribute__((noreturn));

#endif
