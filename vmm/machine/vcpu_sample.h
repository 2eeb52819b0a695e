/*
 * What a vCPU that is not running was doing, as far as one look shows.
 */
#ifndef STRATA_MACHINE_VCPU_SAMPLE_H
#define STRATA_MACHINE_VCPU_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;

struct vcpu_sample {
    bool started, halted, interrupts;
    uint64_t rip, rsp, rsi, rdi, exits;
};

/* Reads a vCPU that is not running. 0 or -errno. */
int vcpu_sample(const struct vcpu *vcpu, struct vcpu_sample *sample);

#endif
