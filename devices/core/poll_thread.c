#include "devices/core/poll_thread.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

void poll_thread_init(struct poll_thread *thread)
{
    *thread = (struct poll_thread){ .wake_fd = -1 };
}

int poll_thread_start(struct poll_thread *thread, void *(*body)(void *owner), void *owner)
{
    sigset_t all, before;
    int err;

    thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (thread->wake_fd < 0)
        return -errno;
    /* Signals are for the threads that know what to do about them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(&thread->thread, NULL, body, owner);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread->started = !err;
    return -err;
}

void poll_thread_wake(const struct poll_thread *thread)
{
    uint64_t one = 1;

    /* It can only fail where the counter is full, and the thread has to look anyway. */
    if (thread->wake_fd >= 0)
        (void)!write(thread->wake_fd, &one, sizeof(one));
}

void poll_thread_woken(const struct poll_thread *thread)
{
    uint64_t counter;

    (void)!read(thread->wake_fd, &counter, sizeof(counter));
}

void poll_thread_end(struct poll_thread *thread)
{
    if (thread->started)
        pthread_join(thread->thread, NULL);
    if (thread->wake_fd >= 0)
        close(thread->wake_fd);
    poll_thread_init(thread);
}
