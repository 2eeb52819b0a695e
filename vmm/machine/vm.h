/*
 * One virtual machine: memory, buses, vCPUs and their threads, from creation to its
 * end. Several may live in one process.
 *
 * Threads: vm_stop, vm_pause and vm_resume may be called from any thread, also several
 * at a time; the other functions by one at a time (vm_wait also during vm_run). SIGUSR1 is the
 * signal that gets a vCPU thread out of KVM_RUN and out of blocking system calls; vm_create gives
 * it a handler that does nothing.
 */
#ifndef STRATA_MACHINE_VM_H
#define STRATA_MACHINE_VM_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/machine.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/kvm.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"

struct cpuid_mask;
struct cpu_template;
struct cpuid_table;
struct msr_reader;
struct vm_setup;

#define VM_KICK_SIGNAL SIGUSR1
#define VM_CPUS_MAX    64
#define VM_NO_VCPU     (~0u)

struct vm_shape {
    uint64_t memory_bytes;
    unsigned ncpus; /* 1 to VM_CPUS_MAX */
    enum memory_backing backing;
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
    int (*meanwhile)(struct memory *memory, void *arg);
    void *arg;
};

enum vm_end_reason {
    VM_END_NONE,           /* still running */
    VM_END_GUEST_EXIT,     /* the guest said so; status is its exit status */
    VM_END_GUEST_RESET,    /* the guest asked for a reset */
    VM_END_GUEST_PANIC,    /* the guest's kernel gave up */
    VM_END_TRIPLE_FAULT,   /* KVM_EXIT_SHUTDOWN */
    VM_END_INTERNAL_ERROR, /* KVM_EXIT_INTERNAL_ERROR: KVM could not go on */
    VM_END_FAIL_ENTRY,     /* KVM_EXIT_FAIL_ENTRY: the hardware refused the state */
    VM_END_UNKNOWN_EXIT,   /* an exit this strata has no handler for */
    VM_END_RUN_ERROR,      /* KVM_RUN itself failed, error says how */
    VM_END_HOST_STOP,      /* the host ended it: a signal, a check, a time limit */
    VM_END_HUNG,           /* the watchdog found no progress */
};

/* Why and how the run ended: what the first vm_stop said. */
struct vm_end {
    enum vm_end_reason reason;
    int status;
    unsigned vcpu; /* whose thread said so; VM_NO_VCPU: another thread */
    int error;     /* -errno for VM_END_RUN_ERROR */
};

struct vm {
    const struct kvm_host *host;
    struct vm_shape shape;
    int fd;
    int end_fd; /* eventfd: readable once the VM has been told to stop */
    struct memory memory;
    struct bus pio, mmio;
    const struct msr_reader *msr_reader; /* NULL: none */
    struct vcpu *vcpus;
    unsigned ncpus;
    struct vm_setup *setup;          /* what goes on beside vm_create, see vm_setup.h */
    const struct cpuid_table *cpuid; /* what all vCPUs' tables are made from, once it is done */
    const struct cpu_template
        *cpu_template; /* why they hide something unasked, then; NULL: they do not */

    atomic_bool attention; /* a vCPU should look under the lock before it goes on */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    unsigned active;      /* vCPUs that may be inside KVM_RUN or a device, and the worker */
    unsigned threads;     /* vCPU threads that have not finished */
    struct vcpu *worker;  /* a thread that stands still as vCPUs do (worker.h); NULL: none */
    unsigned pause_depth; /* > 0: `pauser` holds the world */
    pthread_t pauser;
    struct vm_end end;
};

/*
 * Creates the VM with its memory, interrupt chip and vCPUs, nothing running. `host`
 * must outlive it. 0, or -errno with nothing left behind: -EINVAL a shape that cannot
 * be, -ENOMEM no memory (for hugetlb: too few free huge pages), else KVM's. The
 * boot CPU is there on return; the others come up beside, until vm_start, vm_run or
 * vcpu_configure, which then say what went wrong with them.
 */
int vm_create(struct vm *vm, const struct kvm_host *host, const struct vm_shape *shape);

/* Ends the run if it goes on, and frees everything. */
void vm_destroy(struct vm *vm);

/*
 * Lets the guest run, once for each VM. vm_start runs every vCPU on a thread of its own
 * and returns. vm_run runs the boot CPU on the calling thread, which saves the way to
 * another, and meanwhile beside(arg) (NULL: nothing) on a thread that is there already;
 * it returns when both have come to their end. 0, or -errno with nothing running; where
 * it is a thread that could not be started, the VM counts as stopped by the host.
 */
int vm_start(struct vm *vm);
int vm_run(struct vm *vm, void (*beside)(void *arg), void *arg);

/*
 * Tells every vCPU to stop, for good; the first call's reason and status stand. Does
 * not wait: no vCPU enters the guest any more, vm_wait waits for the threads.
 */
void vm_stop(struct vm *vm, enum vm_end_reason reason, int status);

/* The same for a KVM_RUN that failed with this -errno. */
void vm_stop_errno(struct vm *vm, int error);

/* Waits until the VM has ended and its threads are gone: 0, or -ETIMEDOUT. < 0: forever. */
int vm_wait(struct vm *vm, int timeout_ms);

/*
 * Stops the world: on return no vCPU but `self` is inside KVM_RUN or in the middle of
 * a device access, and none will be until vm_resume by the same thread. self is the
 * calling thread's own vCPU, or NULL where the caller is none. Callers on several
 * threads get their turn one after another, and count as stopped while they wait.
 * Pauses nest. Where the VM is being stopped for good, the world may be at rest
 * without being held; vm_resume is then still to be called.
 */
void vm_pause(struct vm *vm, struct vcpu *self);
void vm_resume(struct vm *vm, struct vcpu *self);

/*
 * vm_pause from a thread that is no vCPU's, which gives up where the world is not at rest
 * in time: -ETIMEDOUT, the world goes on, nothing is to be resumed, and *stuck is a vCPU
 * that did not come out of KVM_RUN or a device (VM_NO_VCPU: another thread had the world).
 */
int vm_pause_within(struct vm *vm, int timeout_ms, unsigned *stuck);

/* Whether the vCPU may be inside KVM_RUN or a device, so that asking KVM about it may block. */
bool vcpu_is_active(const struct vcpu *vcpu);

/*
 * Where a vCPU thread stands still while the world is paused; also to be called by a
 * device, with no lock held, whose blocking system call was interrupted. False: the
 * VM is ending, give up and return.
 */
bool vcpu_park(struct vcpu *vcpu);

/* Until vcpu_park, the thread touches nothing of the guest's: nobody has to wait for it. */
void vcpu_rest(struct vcpu *vcpu);

/* "guest exit", "triple fault", … */
const char *vm_end_name(enum vm_end_reason reason);

#endif
