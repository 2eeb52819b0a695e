/*
 * A thread of the process that may touch guest memory, a ring or the state of a device: a
 * vCPU's, the I/O thread, those of disks, networks and sockets, and threads of the host's side
 * while they call into a device. Each is registered with its VM. It is inside between
 * vm_thread_enter and vm_thread_leave and touches what belongs to the guest only there; outside
 * it waits for work, at a park point. vm_pause (vm_run.h) returns when none is inside.
 *
 * Where nobody pauses, entering and leaving take no lock and make no system call.
 */
#ifndef STRATA_MACHINE_VM_THREAD_H
#define STRATA_MACHINE_VM_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

struct vcpu;
struct vm;

#define VM_THREAD_NAME_BYTES 32

/* Ends KVM_RUN and blocking system calls of a thread that is to stand still or to end. */
#define VM_EXIT_SIGNAL SIGUSR1

/*
 * What a thread may wait for while it is inside decides when a pause stops it. A reset waits
 * until a disk's requests have ended, an UNMAP until a transfer has: so the threads that
 * finish those go on until all that may wait for them stand still.
 */
enum vm_thread_stage {
    VM_THREAD_FRONT, /* may wait for requests to end: vCPUs, the I/O thread. Stops first. */
    VM_THREAD_BACK,  /* waits for locks only, held shortly. Stops when all others do. */
};

struct vm_thread {
    struct vm *vm; /* NULL: of no VM (tests), it is never to stand still */
    enum vm_thread_stage stage;
    struct vcpu *vcpu; /* whose thread it is; NULL: it is no vCPU's */
    char name[VM_THREAD_NAME_BYTES];
    int wake_fd; /* eventfd, readable: it is to look again; < 0: there is none */
    void (*body)(void *arg);
    void *arg;

    atomic_uint running;   /* how often it is inside: at most once but for threads of the host */
    atomic_bool in_flight; /* requests of it are with the host's kernel, which may write memory */
    atomic_bool resumed;   /* it was held up, and is to be woken when the pause ends */

    /* Under the VM's lock. */
    pthread_t thread;
    bool started; /* `thread` is valid and not joined yet, */
    bool own;     /* and was made by vm_thread_start, which is joined by vm_thread_end */
    bool registered, ending;
    struct vm_thread *next; /* registered with the same VM */
};

/* Makes nothing that costs anything. `name` is cut to what fits. */
void vm_thread_init(struct vm_thread *thread, struct vm *vm, enum vm_thread_stage stage,
                    const char *name);

/*
 * Registers it and runs body(arg) on a thread of its own with a small stack, which gets no signal
 * but VM_EXIT_SIGNAL; one of stage BACK gets a wake_fd. 0 or -errno, with nothing left behind.
 */
int vm_thread_start(struct vm_thread *thread, void (*body)(void *arg), void *arg);

/*
 * Waits for the end of the thread, which has been told to end; wakes it for that, and gets it
 * out of a pause. Does nothing where there is none.
 */
void vm_thread_end(struct vm_thread *thread);

/*
 * For threads that are there already and call into a device: several may use one struct at a
 * time. `wake_fd` (< 0: none) stays the caller's, and is written to where a pause made
 * vm_thread_try_enter fail, when it ends.
 */
void vm_thread_register(struct vm_thread *thread, int wake_fd);
void vm_thread_unregister(struct vm_thread *thread);

/*
 * Goes inside: waits while another thread has paused the VM. False: the VM is ending, and one of
 * stage FRONT is to end, too; vm_thread_leave is to be called all the same.
 */
bool vm_thread_enter(struct vm_thread *thread);
void vm_thread_leave(struct vm_thread *thread);

/* The same, but false, and not inside, where it would have to wait. Stage BACK. */
bool vm_thread_try_enter(struct vm_thread *thread);

/*
 * Inside: stands still while another thread has paused the VM. For what takes long or was
 * interrupted; with no lock held. False as vm_thread_enter.
 */
bool vm_thread_park(struct vm_thread *thread);

/*
 * Inside, stage BACK: a pause waits for this one, so what is new is to be held; wake_fd is
 * written to when it may go on. What is with the host's kernel already (in_flight) is finished.
 */
bool vm_thread_is_held(struct vm_thread *thread);

/*
 * Says whether requests are with the host's kernel. By any thread that is inside. While they are
 * no pause begins, and vm_thread_enter does not wait: the thread is to finish them.
 */
void vm_thread_set_in_flight(struct vm_thread *thread, bool in_flight);

/* From any thread: has it look again. Does nothing where there is none. */
void vm_thread_wake(const struct vm_thread *thread);

/* By the thread itself, once it has been woken, before it looks. */
void vm_thread_woken(const struct vm_thread *thread);

/* ---- For the files of this folder ---- */

/* What vm_thread_register and vm_thread_unregister do, with the VM's lock held. */
void vm_thread_link(struct vm_thread *thread);
void vm_thread_unlink(struct vm_thread *thread);

/*
 * Where a thread runs. Linux likes to queue a new thread on its creator's CPU, behind
 * the creator, also when another CPU is idle.
 */
enum thread_place {
    THREAD_ANYWHERE,
    THREAD_ELSEWHERE, /* never on the CPU that the creator is on now, if there is another */
};

/*
 * A thread with a small stack that gets no signal but VM_EXIT_SIGNAL, registered with no VM.
 * 0 or -errno.
 */
int thread_create(pthread_t *thread, void *(*body)(void *), void *arg, enum thread_place place);

#endif
