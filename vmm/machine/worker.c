#include "vmm/machine/worker.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "vmm/machine/vm.h"
#include "vmm/machine/vm_threads.h"

#define KICK_INTERVAL_MS 10

/* 0, or another number: not yet. */
static int join_within(pthread_t thread, int ms)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += ms * 1000000l;
    limit.tv_sec += limit.tv_nsec / 1000000000l;
    limit.tv_nsec %= 1000000000l;
    return pthread_timedjoin_np(thread, NULL, &limit);
}

static void *thread_body(void *arg)
{
    struct worker *worker = arg;

    worker->body(worker->arg);
    worker_leave(worker);
    return NULL;
}

int worker_start(struct worker *worker, struct vm *vm, void (*body)(void *arg), void *arg)
{
    int err = -EBUSY;

    *worker = (struct worker){ .cpu = { .vm = vm, .index = VM_NO_VCPU, .fd = -1 },
                               .body = body,
                               .arg = arg };
    pthread_mutex_lock(&vm->lock);
    if (!vm->worker)
        err = thread_create(&worker->cpu.thread, thread_body, worker, THREAD_ANYWHERE);
    worker->cpu.started = !err;
    if (!err)
        vm->worker = &worker->cpu;
    pthread_mutex_unlock(&vm->lock);
    return err;
}

void worker_join(struct worker *worker)
{
    struct vm *vm = worker->cpu.vm;

    /* A signal may come before the system call that it is to end. */
    while (join_within(worker->cpu.thread, KICK_INTERVAL_MS))
        pthread_kill(worker->cpu.thread, VM_KICK_SIGNAL);
    pthread_mutex_lock(&vm->lock);
    vm->worker = NULL;
    pthread_mutex_unlock(&vm->lock);
}

bool worker_enter(struct worker *worker)
{
    return vcpu_park(&worker->cpu);
}

void worker_leave(struct worker *worker)
{
    vcpu_rest(&worker->cpu);
}
