/* The few things the kernel reads from a device tree blob (Devicetree spec 0.4, ch. 5). */
#ifndef STRATA_KERNEL_ARCH_FDT_H
#define STRATA_KERNEL_ARCH_FDT_H

#include <stdbool.h>

/* Fills in boot_info from a blob. False if it is none. */
bool fdt_read(const void *blob);

#endif
