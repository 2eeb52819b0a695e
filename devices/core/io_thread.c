#include "devices/core/io_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/machine/ioeventfd.h"
#include "vmm/machine/vm.h"

#define EVENTS_AT_ONCE 8

void io_thread_create(struct io_thread *io, struct vm *vm)
{
    io->vm = vm;
    io->epoll_fd = -1;
    vm_thread_init(&io->thread, vm, VM_THREAD_FRONT, "I/O thread");
    io->nevents = 0;
    io->error = 0;
    atomic_init(&io->signals, 0);
    atomic_init(&io->wakeups, 0);
    pthread_mutex_init(&io->lock, NULL);
}

/*
 * The VM may have been paused since epoll_wait: so the eventfd is read, and the count
 * taken from it, only when the thread may go on.
 */
static void io_thread_work(void *arg)
{
    struct io_thread *io = arg;
    struct epoll_event ready[EVENTS_AT_ONCE];
    bool alive = true;

    while (alive) {
        int count = epoll_wait(io->epoll_fd, ready, EVENTS_AT_ONCE, -1);

        /* io_uring interrupts the thread that submitted a request, for its completion. */
        if (count < 0)
            continue;
        alive = vm_thread_enter(&io->thread);
        for (int i = 0; i < count && alive; i++) {
            struct io_event *event = ready[i].data.ptr; /* NULL: the VM is ending */
            uint64_t signals;

            if (!event || read(event->fd, &signals, sizeof(signals)) != sizeof(signals))
                continue;
            atomic_fetch_add_explicit(&io->signals, signals, memory_order_relaxed);
            event->ready(event->owner, event->index, signals, &io->thread);
            /* Between two devices, too: a pause need not wait for all of them. */
            alive = vm_thread_park(&io->thread);
        }
        vm_thread_leave(&io->thread);
        atomic_fetch_add_explicit(&io->wakeups, 1, memory_order_relaxed);
    }
}

/* With the lock. */
static int io_thread_begin(struct io_thread *io)
{
    struct epoll_event end = { .events = EPOLLIN };
    int err;

    io->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (io->epoll_fd < 0)
        return -errno;
    if (epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, io->vm->end_fd, &end) < 0) {
        err = -errno;
        goto close_epoll;
    }
    err = vm_thread_start(&io->thread, io_thread_work, io);
    if (err)
        goto close_epoll;
    return 0;

close_epoll:
    close(io->epoll_fd);
    io->epoll_fd = -1;
    return err;
}

/* With the lock. The thread listens before KVM signals, so that nothing is lost. */
static int watch(struct io_thread *io, uint64_t gpa, struct io_event *event)
{
    struct epoll_event in = { .events = EPOLLIN, .data.ptr = event };
    int err = io->nevents < IO_EVENTS_MAX ? 0 : -ENOSPC;

    if (!err && io->epoll_fd < 0)
        err = io_thread_begin(io);
    if (err)
        return err;
    event->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event->fd < 0)
        return -errno;
    if (epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, event->fd, &in) < 0) {
        err = -errno;
        goto close_event;
    }
    err = ioeventfd_add(io->vm, gpa, event->index, event->fd);
    if (err)
        goto close_event; /* which takes it from epoll's set too; it was never ready */
    io->events[io->nevents++] = event;
    return 0;

close_event:
    close(event->fd);
    return err;
}

int io_thread_watch(struct io_thread *io, uint64_t gpa, unsigned index, io_ready *ready,
                    void *owner)
{
    struct io_event *event = malloc(sizeof(*event));
    int err = -ENOMEM;

    pthread_mutex_lock(&io->lock);
    if (event) {
        *event = (struct io_event){ .ready = ready, .owner = owner, .index = index };
        err = watch(io, gpa, event);
    }
    if (err && !io->error)
        io->error = err;
    pthread_mutex_unlock(&io->lock);
    if (err)
        free(event);
    return err;
}

void io_thread_destroy(struct io_thread *io)
{
    if (io->epoll_fd >= 0) {
        vm_thread_end(&io->thread);
        close(io->epoll_fd);
    }
    for (unsigned i = 0; i < io->nevents; i++) {
        close(io->events[i]->fd);
        free(io->events[i]);
    }
    pthread_mutex_destroy(&io->lock);
}
