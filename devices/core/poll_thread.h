/*
 * A thread of a device or its backend, which polls what is behind it on the host, and an eventfd
 * among that by which others make it look again.
 */
#ifndef STRATA_CORE_POLL_THREAD_H
#define STRATA_CORE_POLL_THREAD_H

#include <pthread.h>
#include <stdbool.h>

struct poll_thread {
    pthread_t thread;
    bool started;
    int wake_fd; /* readable: it is to look again; < 0: there is none, and no thread */
};

/* Makes nothing. */
void poll_thread_init(struct poll_thread *thread);

/* Starts body(owner), without signals: 0 or -errno, then poll_thread_end is to be called too. */
int poll_thread_start(struct poll_thread *thread, void *(*body)(void *owner), void *owner);

/* From any thread; does nothing where there is none. */
void poll_thread_wake(const struct poll_thread *thread);

/* By the thread itself, once it has been woken, before it looks. */
void poll_thread_woken(const struct poll_thread *thread);

/* Waits for it, which has been told to end and woken. */
void poll_thread_end(struct poll_thread *thread);

#endif
