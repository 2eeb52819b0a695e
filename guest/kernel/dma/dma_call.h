/* SYS_DMA (guest/abi/dma.h). */
#ifndef STRATA_KERNEL_DMA_DMA_CALL_H
#define STRATA_KERNEL_DMA_DMA_CALL_H

#include <stdint.h>

#include "guest/kernel/proc/process.h"

int64_t dma_call(struct process *p, uint32_t op, uint64_t va);

#endif
