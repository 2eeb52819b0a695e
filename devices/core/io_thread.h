/*
 * The I/O thread: carries out what guests tell their devices (virtio's QueueNotify) beside
 * the vCPUs, so that a vCPU goes on at once. KVM signals an eventfd for such a write; the
 * vCPU makes no exit.
 *
 * There is no thread, and nothing registered with KVM, before a driver uses a device. While
 * the VM is paused (vm_pause) the thread stands still.
 */
#ifndef STRATA_CORE_IO_THREAD_H
#define STRATA_CORE_IO_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "vmm/machine/vm_thread.h"

#define IO_EVENTS_MAX 256

struct vm;

/*
 * `count` writes since the last call. On the I/O thread, `self`, which may be parked
 * (vm_thread_park) with no lock held.
 */
typedef void io_ready(void *owner, unsigned index, uint64_t count, struct vm_thread *self);

struct io_event {
    io_ready *ready;
    void *owner;
    unsigned index;
    int fd; /* eventfd */
};

struct io_thread {
    struct vm *vm;
    struct vm_thread thread;
    pthread_mutex_t lock;
    int epoll_fd; /* < 0: there is no thread yet */
    unsigned nevents;
    struct io_event *events[IO_EVENTS_MAX];
    int error;             /* -errno of the first thing that could not be watched; 0: none */
    atomic_ullong signals; /* writes that made no exit, */
    atomic_ullong wakeups; /* and how often the thread came to look for them */
};

/* Makes nothing that costs anything. */
void io_thread_create(struct io_thread *io, struct vm *vm);

/* After the VM has been told to stop. Nothing is called any more when it returns. */
void io_thread_destroy(struct io_thread *io);

/*
 * Has ready(owner, index, …) called when the guest writes the 32-bit number `index` to gpa,
 * instead of an exit. From any thread, also while the guest runs. `owner` outlives the
 * thread. 0; or -errno, also noted in `error`, and the write stays an exit.
 */
int io_thread_watch(struct io_thread *io, uint64_t gpa, unsigned index, io_ready *ready,
                    void *owner);

#endif
