/*
 * virtio-balloon, the driver's side: reports free frames to the host some time after they
 * were freed, holds as many pages as the host asks for, and tells it how much memory is free.
 */
#ifndef STRATA_KERNEL_DRIVERS_BALLOON_H
#define STRATA_KERNEL_DRIVERS_BALLOON_H

#include "guest/kernel/drivers/device.h"

extern const struct driver balloon_driver;

#endif
