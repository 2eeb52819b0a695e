/*
 * Run, pause and stop of a VM.
 *
 * Threads: vm_stop, vm_pause and vm_resume may be called from any thread, also several at a time,
 * with no lock held; the other functions by one at a time (vm_wait also during vm_run).
 * VM_EXIT_SIGNAL (vm_thread.h) gets a vCPU's thread out of KVM_RUN and out of blocking system
 * calls; vm_create gives it a handler that does nothing.
 *
 * Locking: `lock` of struct vm covers what is noted there, and is the innermost of all: a thread
 * that has it takes no other, and calls into no device. It is taken when something starts, pauses,
 * resumes or ends, never between two exits or two requests. There threads only look at two flags,
 * which are set under the lock: `exit_request` says that a pause or the end has come and is for
 * threads of stage FRONT, `hold_request` is set when all of these stand still, and is for those
 * of stage BACK. In between a vCPU may wait for a disk that finishes its requests, and gets them.
 * A thread that finds its flag set goes to a park point with no other lock held (vm_thread_park,
 * vcpu_park), and waits there for `changed`.
 */
#ifndef STRATA_MACHINE_VM_RUN_H
#define STRATA_MACHINE_VM_RUN_H

#include <stdbool.h>

#include "vmm/machine/vm_thread.h"

#define VM_NO_VCPU (~0u)

struct vcpu;
struct vm;

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
 * On return every vCPU but `self` and every vm_thread stands at a park point, and stays there
 * until vm_resume by the same thread: guest memory, rings and devices do not change but by the
 * caller. What disks were asked for is finished, or is held until then.
 *
 * self is the calling thread's own vCPU, or NULL where the caller is none. Callers on several
 * threads get their turn one after another, and count as stopped while they wait. Pauses nest.
 * Where the VM is being stopped for good while another thread has it paused, this returns without
 * having paused anything; vm_resume is then still to be called.
 */
void vm_pause(struct vm *vm, struct vcpu *self);
void vm_resume(struct vm *vm, struct vcpu *self);

/*
 * vm_pause from a thread that is no vCPU's, which gives up where that takes longer: -ETIMEDOUT,
 * all goes on, nothing is to be resumed, and `stuck` is the name of a thread that did not come to
 * its park point ("": another thread had the VM paused).
 */
int vm_pause_within(struct vm *vm, int timeout_ms, char stuck[VM_THREAD_NAME_BYTES]);

/* Whether the vCPU may be inside KVM_RUN or a device, so that asking KVM about it may block. */
bool vcpu_is_running(const struct vcpu *vcpu);

/*
 * The park point of a vCPU's loop: as vm_thread_park of its thread, and KVM_RUN can be entered
 * again. False: the VM is ending, give up and return.
 */
bool vcpu_park(struct vcpu *vcpu);

/* "guest exit", "triple fault", … */
const char *vm_end_name(enum vm_end_reason reason);

#endif
