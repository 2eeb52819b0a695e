/* Starting the other CPUs, and making them forget translations. */
#ifndef STRATA_KERNEL_ARCH_SMP_H
#define STRATA_KERNEL_ARCH_SMP_H

struct cpu;

/* Starts every CPU of boot_info but this one; those that do not come are left out. */
void smp_start(void);

/*
 * Another CPU forgets what its TLB holds of user memory: when this returns no user code
 * runs there, and none will before the flush. The lock is held.
 */
void smp_flush(struct cpu *cpu);

#endif
