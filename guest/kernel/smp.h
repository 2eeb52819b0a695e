/* Starting the other CPUs. */
#ifndef STRATA_KERNEL_SMP_H
#define STRATA_KERNEL_SMP_H

/* Starts every CPU of boot_info but this one; those that do not come are left out. */
void smp_start(void);

#endif
