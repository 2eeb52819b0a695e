/*
 * Threads of a VM, for the files of this folder.
 */
#ifndef STRATA_MACHINE_VM_THREADS_H
#define STRATA_MACHINE_VM_THREADS_H

#include <pthread.h>

/*
 * Where a thread runs. Linux likes to queue a new thread on its creator's CPU, behind
 * the creator, also when another CPU is idle.
 */
enum thread_place {
    THREAD_ANYWHERE,
    THREAD_ELSEWHERE, /* never on the CPU that the creator is on now, if there is another */
};

/* A thread with a small stack that gets no signal but VM_KICK_SIGNAL. 0 or -errno. */
int thread_create(pthread_t *thread, void *(*body)(void *), void *arg, enum thread_place place);

#endif
