/* The virtio-rng driver (virtio 1.2, 5.4), and SYS_RANDOM. */
#ifndef STRATA_KERNEL_DRIVERS_RNG_H
#define STRATA_KERNEL_DRIVERS_RNG_H

#include "guest/kernel/drivers/device.h"
#include "guest/kernel/proc/process.h"

extern const struct driver rng_driver;

/* Random bytes to [va, va + bytes): at most 4096 at once; waits. -ABI_ENODEV without a device. */
int64_t rng_call(struct process *p, uint64_t va, uint64_t bytes);

#endif
