/*
 * The port by which test kernels end the machine with a status, as QEMU's device
 * isa-debug-exit has it: writing v ends it with the exit status (v << 1) | 1, of which
 * the shell sees 8 bits.
 */
#ifndef STRATA_LEGACY_DEBUG_EXIT_H
#define STRATA_LEGACY_DEBUG_EXIT_H

#include <stdint.h>

#include "vmm/machine/bus.h"

#define DEBUG_EXIT_PORT       0xf4 /* where most kernels' authors put it */
#define DEBUG_EXIT_PORT_BYTES 4

struct vm;

struct debug_exit {
    struct vm *vm;
    struct bus_region region;
};

/*
 * Puts it on the VM's port bus. 0; -EEXIST: another device is there; -ERANGE: beyond the
 * last port.
 */
int debug_exit_create(struct debug_exit *debug_exit, struct vm *vm, uint16_t port);

#endif
