/*
 * The PC's interval timer (Intel 8254 data sheet; ports 0x40 to 0x43, its gate and output
 * at 0x61) is KVM's, which costs a kernel thread and two grace periods to create. Kernels
 * that have kvmclock and a TSC-deadline timer never touch it. So it comes into being when
 * a guest first does; that one access is carried out here, all others by KVM.
 */
#ifndef STRATA_LEGACY_PIT_H
#define STRATA_LEGACY_PIT_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/machine/bus.h"

#define PIT_PORT         0x40
#define PIT_PORT_CONTROL 3 /* offset of the control word, after the three counters */
#define PIT_GATE_PORT    0x61

struct vm;

struct pit {
    struct vm *vm;
    pthread_mutex_t lock;
    bool tried; /* under lock */
    struct bus_region region, gate_region;
};

/* Puts the ports on the VM's port bus. 0 or -errno. */
int pit_create(struct pit *pit, struct vm *vm);

#endif
