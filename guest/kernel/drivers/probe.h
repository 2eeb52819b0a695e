/* The driver of the DMA probe (guest/abi/probe.h), as far as it is a device like others. */
#ifndef STRATA_KERNEL_DRIVERS_PROBE_H
#define STRATA_KERNEL_DRIVERS_PROBE_H

#include "guest/kernel/drivers/device.h"
#include "guest/kernel/proc/process.h"

extern const struct driver probe_driver;

/* ABI_DMA_TRANSFER. *error is the errno that the device saw. */
int64_t probe_transfer(struct device *device, struct process *p, uint64_t iova, uint64_t bytes,
                       uint32_t rights, uint64_t *error);

#endif
