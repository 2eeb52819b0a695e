/* madvise: what a process says of memory that stays mapped. */
#ifndef STRATA_KERNEL_MM_ADVISE_H
#define STRATA_KERNEL_MM_ADVISE_H

#include <stdint.h>

struct process;

/* SYS_MADVISE. */
int space_advise(struct process *p, uint64_t start, uint64_t bytes, uint32_t advice);

#endif
