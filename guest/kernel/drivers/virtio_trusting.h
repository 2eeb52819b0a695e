/*
 * How not to do it: a driver that takes the device's word. Nothing in the kernel uses
 * this but a policy that asks for it, to show what the checks of virtq_pop are for.
 */
#ifndef STRATA_KERNEL_DRIVERS_VIRTIO_TRUSTING_H
#define STRATA_KERNEL_DRIVERS_VIRTIO_TRUSTING_H

#include <stdint.h>

#include "guest/kernel/drivers/virtio.h"

/* As virtq_pop, for ABI_DEVICE_TRUSTING. */
int virtq_pop_trusting(struct virtq *q, void **token, uint32_t *bytes);

#endif
