/*
 * A watchdog that never takes an idle guest for a dead one. It looks at every vCPU eight
 * times in the time it was given, and finds that the guest hangs if at all of these
 *
 * - a vCPU runs with interrupts off, without an exit since the look before, near the same
 *   instruction (256 bytes) and with the same RSP, RSI and RDI: it spins; or
 * - every vCPU that was started is halted with interrupts off; or
 * - a vCPU does not come out of KVM or a device, whatever signals it gets.
 *
 * A guest that waits for an interrupt has interrupts on; one that copies, clears or unpacks
 * memory moves RSI or RDI. What this does not find: a loop with interrupts on (it looks like
 * work), one that asks a device again and again (it makes exits), and a loop over more than
 * 256 bytes. An NMI could still wake a vCPU that is halted with interrupts off.
 */
#ifndef STRATA_MONITOR_WATCHDOG_H
#define STRATA_MONITOR_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/vcpu_sample.h"

#define WATCHDOG_CHECKS      8
#define WATCHDOG_WHY_BYTES   96
#define WATCHDOG_SECONDS_MAX 86400u

struct vm;

struct watchdog {
    struct vm *vm;
    unsigned ncpus;
    struct vcpu_sample *last; /* owned, as are: */
    unsigned *spins;          /* for how many looks each vCPU has been spinning, */
    unsigned halts;           /* all have been halted for good, */
    unsigned stuck;           /* and one has not come out of KVM */
    char why[WATCHDOG_WHY_BYTES];
};

/* 0 or -ENOMEM. */
int watchdog_create(struct watchdog *watchdog, struct vm *vm, unsigned ncpus);
void watchdog_destroy(struct watchdog *watchdog);

/*
 * Stops the world for a moment and looks, from a thread that is no vCPU's. True: the guest
 * hangs, `why` says how. To be called WATCHDOG_CHECKS times in the time that it was given.
 */
bool watchdog_check(struct watchdog *watchdog);

/* What follows from a look at all vCPUs. */
bool watchdog_verdict(struct watchdog *watchdog, const struct vcpu_sample *cpus);

#endif
