/*
 * All that KVM knows of one vCPU, read while it stands still and written into another one, which
 * then goes on in its place. Plain data: it may be copied, and written to a file by a program that
 * runs on the same kind of host.
 */
#ifndef STRATA_MACHINE_VCPU_STATE_H
#define STRATA_MACHINE_VCPU_STATE_H

#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>

struct vcpu;

#define VCPU_STATE_VERSION   1u
#define VCPU_STATE_MSRS_MAX  512u
#define VCPU_STATE_XSAVE_MAX 16384u /* with the tiles of AMX it is 11008 */

/* Parts that not every KVM has. */
#define VCPU_STATE_XCRS      1u
#define VCPU_STATE_XSAVE     2u
#define VCPU_STATE_DEBUGREGS 4u
#define VCPU_STATE_EVENTS    8u

struct vcpu_state {
    uint32_t version; /* VCPU_STATE_VERSION */
    uint32_t parts;   /* a mask of those above that are there */
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp_state;
    uint32_t tsc_khz; /* 0: KVM does not say */
    uint32_t nmsrs;   /* TSC and kvmclock's are among them */
    struct kvm_msr_entry msrs[VCPU_STATE_MSRS_MAX];
    uint32_t xsave_bytes;
    uint32_t xsave[VCPU_STATE_XSAVE_MAX / sizeof(uint32_t)];
};

/*
 * Of a vCPU whose VM is paused, has not started or has ended. An access that its last exit was
 * about is completed first (api.rst, KVM_RUN). 0; -EAGAIN: that takes another access of the
 * device, let it run on and pause again; or -errno. `why` says what could not be read; on 0 that
 * is which parts are not available here, or "".
 */
int vcpu_state_get(const struct vcpu *vcpu, struct vcpu_state *state, char *why, size_t why_bytes);

/*
 * Into a vCPU that has its CPUID table (vcpu_configure), the same as the other's, and that does
 * not run. 0; -EINVAL: another version, or counts that cannot be; or -errno, the vCPU in no state
 * to run, and `why` says what could not be set: an MSR is an error only where it differs.
 */
int vcpu_state_set(const struct vcpu *vcpu, const struct vcpu_state *state, char *why,
                   size_t why_bytes);

#endif
