/*
 * One virtual CPU: its thread, its KVM_RUN loop and what its exits were.
 */
#ifndef STRATA_MACHINE_VCPU_H
#define STRATA_MACHINE_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define VCPU_EXIT_REASONS 48
#define VCPU_TRAIL        16 /* a power of two */

struct vm;
struct cpuid_table;

/* One of the last exits, for the crash report. */
struct vcpu_exit {
    uint32_t reason; /* KVM_EXIT_* */
    uint32_t bytes;  /* of one access; 0 where the exit was none */
    bool write;
    uint64_t address; /* port or GPA */
};

struct vcpu {
    struct vm *vm;
    unsigned index; /* also the local APIC id; 0 is the boot CPU */
    int fd;
    struct kvm_run *run;
    bool configured; /* has its CPUID table */

    /* Under the VM's lock. */
    pthread_t thread;
    bool started; /* thread is valid and not joined yet, */
    bool own;     /* and ours to join; else it is vm_run's caller */
    bool active;  /* may be inside KVM_RUN */

    /* The vCPU thread's own; others look only while it is paused or has ended. */
    uint64_t exits[VCPU_EXIT_REASONS]; /* by reason; larger reasons count as the last */
    uint64_t trail_next;
    struct vcpu_exit trail[VCPU_TRAIL]; /* ring, trail_next % VCPU_TRAIL is the oldest */
};

/*
 * Creates vCPU `index` in its reset state: the boot CPU runnable, the others waiting
 * for INIT and SIPI from the guest. 0, or -errno with fd < 0, which vcpu_destroy takes.
 */
int vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned index);
void vcpu_destroy(struct vcpu *vcpu);

/*
 * Makes sure that the vCPU has its CPUID table, made from the VM's. KVM checks
 * registers against it, so call it before setting state that depends on features;
 * otherwise vCPUs have it when they start to run. 0 or -errno.
 */
int vcpu_configure(struct vcpu *vcpu);

/* Gives the vCPU its copy of the table. */
int vcpu_set_cpuid(struct vcpu *vcpu, const struct cpuid_table *table);

/*
 * The state a PVH kernel starts in: 32-bit protected mode, flat segments, paging and
 * interrupts off (Xen, docs/misc/pvh.pandoc). rip and ebx as given. 0 or -errno.
 */
int vcpu_enter_protected(struct vcpu *vcpu, uint32_t rip, uint32_t ebx);

/* Reads the registers of a vCPU that is paused, has ended or is the caller's. 0 or -errno. */
int vcpu_registers(const struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* Frequency of the guest's time stamp counter, 0 if KVM does not say. */
uint64_t vcpu_tsc_hz(const struct vcpu *vcpu);

/* Runs the guest until the VM ends: the body of the vCPU's thread. */
void vcpu_run(struct vcpu *vcpu);

/* "IO", "MMIO", … for KVM_EXIT_*, "?" for what this strata does not know. */
const char *vcpu_exit_name(uint32_t reason);

#endif
