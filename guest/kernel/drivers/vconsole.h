/*
 * Console output by virtio-console (virtio 1.2, 5.3), with console=virtio on the command
 * line. Input stays with the serial port.
 */
#ifndef STRATA_KERNEL_DRIVERS_VCONSOLE_H
#define STRATA_KERNEL_DRIVERS_VCONSOLE_H

#include "guest/kernel/drivers/device.h"

extern const struct driver vconsole_driver;

#endif
