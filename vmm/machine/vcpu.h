/*
 * One virtual CPU: its thread, its KVM_RUN loop and what its exits were.
 */
#ifndef STRATA_MACHINE_VCPU_H
#define STRATA_MACHINE_VCPU_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/vm_thread.h"

#define VCPU_EXIT_REASONS 48
#define VCPU_EXIT_LOG     16 /* a power of two */

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

    struct vm_thread thread; /* inside while it may be in KVM_RUN; not `own`: vm_run's caller's */

    /* The vCPU thread's own; others look only while it is paused or has ended. */
    uint64_t exits[VCPU_EXIT_REASONS]; /* by reason; larger reasons count as the last */
    uint64_t exit_log_next;
    struct vcpu_exit
        exit_log[VCPU_EXIT_LOG]; /* ring, exit_log_next % VCPU_EXIT_LOG is the oldest */
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
 * Where a vCPU starts. Registers that are not here are 0, interrupts are off; segments
 * are flat.
 */
struct vcpu_entry {
    uint64_t rip, rax, rbx, rsi;
    uint64_t cr3; /* vcpu_enter_long: page tables that are in memory by then */
    uint64_t gdt; /* its GPA; 0: none that could be used */
    uint16_t gdt_bytes;
};

/*
 * 32-bit protected mode, paging off: the state that a PVH kernel (Xen, docs/misc/pvh.pandoc)
 * and a Multiboot kernel (specification 0.6.96, 3.2) starts in. 0 or -errno.
 */
int vcpu_enter_protected(struct vcpu *vcpu, const struct vcpu_entry *entry);

/*
 * 64-bit mode, as Linux wants it (Documentation/arch/x86/boot.rst, 64-bit boot protocol):
 * CS is selector 0x10, all others 0x18. 0 or -errno.
 */
int vcpu_enter_long(struct vcpu *vcpu, const struct vcpu_entry *entry);

/*
 * Real mode, every segment the 64 KiB block that rip is in. -EINVAL: rip is not below
 * 1 MiB; else 0 or -errno.
 */
int vcpu_enter_real(struct vcpu *vcpu, const struct vcpu_entry *entry);

/* Reads the registers of a vCPU that is paused, has ended or is the caller's. 0 or -errno. */
int vcpu_registers(const struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* Frequency of the guest's time stamp counter, 0 if KVM does not say. */
uint64_t vcpu_tsc_hz(const struct vcpu *vcpu);

/* Runs the guest until the VM ends: the body of the vCPU's thread. */
void vcpu_run(struct vcpu *vcpu);

/* "IO", "MMIO", … for KVM_EXIT_*, "?" for what this strata does not know. */
const char *vcpu_exit_name(uint32_t reason);

#endif
