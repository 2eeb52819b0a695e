/*
 * Probes: a few guest instructions on a throw-away VM, to find out what a host does
 * instead of assuming it.
 */
#ifndef STRATA_MACHINE_PROBE_H
#define STRATA_MACHINE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/machine/vm.h"

#define PROBE_CODE_BYTES 256

enum probe_mode {
    PROBE_32BIT,      /* paging off */
    PROBE_64BIT,      /* CPL 0, RAM mapped by one 2 MiB page */
    PROBE_64BIT_1GIB, /* the same by one 1 GiB page */
};

/* Code that reports EAX with `out %eax, $PROBE_PORT` when it gets that far. */
struct probe_code {
    enum probe_mode mode;
    const uint8_t *code;
    size_t bytes;      /* at most PROBE_CODE_BYTES */
    unsigned limit_ms; /* how long it may take; 0: so long that other load makes none late */
};

#define PROBE_PORT 0x80

struct probe_outcome {
    enum vm_end_reason end; /* VM_END_GUEST_EXIT: it got to its end and reported */
    uint32_t value;         /* what it reported */
    uint64_t tsc_hz;        /* of the guest's time stamp counter, 0: not known */
};

/* Runs the probe, until its limit at most (then end is VM_END_HOST_STOP). 0 or -errno. */
int probe_run(const struct kvm_host *host, const struct probe_code *probe,
              struct probe_outcome *outcome);

#endif
