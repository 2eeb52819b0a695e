/*
 * The device by which a Linux guest says that it panicked (QEMU, docs/specs/pvpanic):
 * one port, whose reading tells which events it takes.
 */
#ifndef STRATA_LEGACY_PVPANIC_H
#define STRATA_LEGACY_PVPANIC_H

#include "vmm/machine/bus.h"

#define PVPANIC_PORT     0x505
#define PVPANIC_PANICKED 0x1 /* the kernel gave up */
#define PVPANIC_CRASHED  0x2 /* it did, and its crash kernel takes over: the run goes on */

struct device_ops;
struct vm;

struct pvpanic {
    struct vm *vm;
    struct bus_region region;
};

/* Puts the port on the VM's port bus. PVPANIC_PANICKED ends the run as a panic. 0 or -errno. */
int pvpanic_create(struct pvpanic *pvpanic, struct vm *vm);

/* How it is described. */
extern const struct device_ops pvpanic_ops;

#endif
