/*
 * As much of the PC's keyboard controller as a guest needs to ask for a reset:
 * command 0xfe to port 0x64 pulses the CPU's reset line (IBM PC AT Technical
 * Reference, keyboard controller commands). There is no keyboard.
 */
#ifndef STRATA_LEGACY_I8042_H
#define STRATA_LEGACY_I8042_H

#include "vmm/machine/bus.h"

#define I8042_PORT        0x64
#define I8042_RESET       0xfe
#define I8042_STATUS_IDLE 0x00 /* no byte to read, ready for a command */

struct vm;

struct i8042 {
    struct vm *vm;
    struct bus_region region;
};

/* Puts the command port on the VM's port bus. 0 or -errno. */
int i8042_create(struct i8042 *i8042, struct vm *vm);

#endif
