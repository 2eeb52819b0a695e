/*
 * The least virtual machine that can exit, as a measure for strata's own: some
 * pages of memory, one vCPU, no device, no interrupt chip, and a loop around KVM_RUN that
 * answers. Nothing of it is shared with the rest of strata.
 */
#ifndef STRATA_MEASURE_BARE_H
#define STRATA_MEASURE_BARE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

#define BARE_SAMPLES 256u

enum bare_event {
    BARE_PIO,   /* a 32-bit read from a port that the loop answers */
    BARE_MMIO,  /* a 32-bit load from an address that the loop answers */
    BARE_CPUID, /* leaf 0 */
    BARE_EVENTS,
};

struct bare {
    int vm, vcpu; /* < 0: not there */
    struct kvm_run *run;
    size_t run_bytes;
    void *memory;
};

/* 0, or -errno with nothing left behind. kvm_fd is /dev/kvm. */
int bare_open(struct bare *bare, int kvm_fd);
void bare_close(struct bare *bare);

/*
 * BARE_SAMPLES times two looks at the clock in 64-bit kernel mode, interrupts off: by turns
 * with nothing and with the event between them. `ticks` gets what each took by the guest's own
 * clock, *exits how often KVM_RUN came back meanwhile. 0 or -errno: -EPROTO what came back was
 * not the event's exit.
 */
int bare_run(struct bare *bare, enum bare_event event, uint64_t ticks[BARE_SAMPLES],
             uint64_t *exits);

#endif
