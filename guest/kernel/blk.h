/* The virtio-blk driver (virtio 1.2, 5.2), and SYS_BLOCK (guest/abi/dma.h). */
#ifndef STRATA_KERNEL_BLK_H
#define STRATA_KERNEL_BLK_H

#include "guest/kernel/device.h"
#include "guest/kernel/process.h"

extern const struct driver blk_driver;

int64_t blk_call(struct process *p, uint32_t op, uint64_t va);

#endif
