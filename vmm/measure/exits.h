/*
 * The experiment `exits` in its parts: what the guest's CPUs wait for (exits.c), events that
 * just happen (exits_events.h), and what goes between guest and host (exits_signals.h).
 */
#ifndef STRATA_MEASURE_EXITS_H
#define STRATA_MEASURE_EXITS_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/msr.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/session.h"

/* A port whose reads note the host's clock. */
#define EXITS_STAMP_PORT 0x5d0u
/* Where in the first device's window nothing is but an ioeventfd. */
#define EXITS_STORE_OFFSET 0xff0u

/* A model-specific register that is no CPU's, and what its reads get from us. */
#define EXITS_MSR        0x4b564df0u
#define EXITS_MSR_ANSWER 0x57454152u

#define EXITS_NO_STORE   "this KVM has no ioeventfd, or refuses it"

/* Events of one batch, each with an empty pair before it. */
#define EXITS_PAIRS (ABI_MEASURE_SAMPLES / 2)

struct exits {
    struct measure_run *run;
    struct session session;
    struct abi_measure_area *area; /* the guest's; it may hold anything */
    double ns_per_tick;
    int64_t status; /* of the last command: how many, or -ABI_E* */

    struct bus_region stamp_port;
    unsigned nstamps;
    uint64_t stamp[EXITS_PAIRS];
    struct msr_reader msr;
    int msr_error;        /* 0: its reads come to us; else why not */
    int store_fd, irq_fd; /* eventfds: signalled by a store; interrupt by ABI_MEASURE_VECTOR */
    int store_error, irq_error;

    /* What to add to the guest's clock to have the host's, and how far it may be off. */
    double offset, offset_slack;
};

/*
 * One operation of the guest's kernel; its samples are in the area. 0, with x->status; or
 * -errno: the machine is gone, and x->session.program.failure says why.
 */
int exits_command(struct exits *x, enum abi_measure_op op, uint64_t count, uint64_t arg);

/* The host's time stamp counter, everything before it done. */
static inline uint64_t exits_clock(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

/* What the status of a command means, for a figure that is not there. */
const char *exits_why(int64_t status);

#endif
