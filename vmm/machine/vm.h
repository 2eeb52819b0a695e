/*
 * One virtual machine: memory, buses, vCPUs and their threads, from creation to its
 * end. Several may live in one process.
 *
 * How it runs, pauses and ends, and which thread may do what when, says vm_run.h.
 */
#ifndef STRATA_MACHINE_VM_H
#define STRATA_MACHINE_VM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/machine.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq_line.h"
#include "vmm/machine/irq_route.h"
#include "vmm/machine/kvm.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"
#include "vmm/machine/vm_run.h"
#include "vmm/machine/vm_thread.h"

struct cpuid_mask;
struct cpu_template;
struct cpuid_table;
struct msr_reader;
struct vm_setup;

#define VM_CPUS_MAX 64

struct vm_params {
    uint64_t memory_bytes;
    unsigned ncpus; /* 1 to VM_CPUS_MAX */
    enum memory_backing backing;
    enum memory_source source;
    int memory_fd;             /* MEMORY_FILE: see struct memory_params */
    uint32_t dirty_ring_bytes; /* of each vCPU (dirty.h), a power of two; 0: no rings */
    bool pc; /* CPUs as a PC's firmware hands them over, and the TSC's frequency in CPUID */
    /*
     * What CPUID does not show; outlives the VM. NULL: nothing, but for a PC what would
     * break it on this host, see struct vm.
     */
    const struct cpuid_mask *cpuid;
    /*
     * What vm_create does with guest memory, which is zero, while KVM creates the VM on
     * another thread: that takes milliseconds on some hosts. If it does not return 0, that
     * is what vm_create returns. NULL: nothing, and no other thread.
     */
    int (*prepare)(struct memory *memory, void *arg);
    void *arg;
};

struct vm {
    const struct kvm_host *host;
    struct vm_params params;
    int fd;
    int end_fd; /* eventfd: readable once the VM has been told to stop */
    struct memory memory;
    struct bus pio, mmio;
    struct irq_lines irq_lines;
    struct irq_routes irq_routes;
    const struct msr_reader *msr_reader; /* NULL: none */
    struct vcpu *vcpus;
    unsigned ncpus;
    struct vm_setup *setup;          /* what goes on beside vm_create, see vm_setup.h */
    const struct cpuid_table *cpuid; /* what all vCPUs' tables are made from, once it is done */
    const struct cpu_template
        *cpu_template; /* why they hide something unasked, then; NULL: they do not */

    atomic_bool exit_request; /* vCPUs and their like look under the lock before they go on, */
    atomic_bool hold_request; /* and so do all other threads (vm_run.h) */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    struct vm_thread *threads; /* all that may touch what belongs to the guest */
    unsigned vcpus_left;       /* vCPU threads that have not finished */
    unsigned pause_depth;      /* > 0: `pauser` has paused the VM */
    pthread_t pauser;
    struct vm_end end;
};

/*
 * Creates the VM with its memory, interrupt chip and vCPUs, nothing running. `host`
 * must outlive it. 0, or -errno with nothing left behind: -EINVAL parameters that cannot
 * be, -ENOMEM no memory (for hugetlb: too few free huge pages), else KVM's. The
 * boot CPU is there on return; the others come up beside, until vm_start, vm_run or
 * vcpu_configure, which then say what went wrong with them.
 */
int vm_create(struct vm *vm, const struct kvm_host *host, const struct vm_params *params);

/* Ends the run if it goes on, and frees everything. */
void vm_destroy(struct vm *vm);

#endif
