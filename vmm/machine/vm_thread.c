#include "vmm/machine/vm_thread.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/machine/vm.h"

#define THREAD_STACK_BYTES (256ul << 10)

/* A signal that comes before the system call that it is to end is lost, so it is sent again. */
#define SIGNAL_INTERVAL_MS 10

/* ---- Creating threads ------------------------------------------------------------------ */

static void thread_place_elsewhere(pthread_attr_t *attr)
{
    int here = sched_getcpu();
    cpu_set_t set;

    if (here < 0 || sched_getaffinity(0, sizeof(set), &set))
        return;
    CPU_CLR(here, &set);
    if (CPU_COUNT(&set))
        pthread_attr_setaffinity_np(attr, sizeof(set), &set);
}

int thread_create(pthread_t *thread, void *(*body)(void *), void *arg, enum thread_place place)
{
    pthread_attr_t attr;
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
    sigset_t all, before;
    int err;

    err = pthread_attr_init(&attr);
    if (err)
        return -err;
    if (place == THREAD_ELSEWHERE)
        thread_place_elsewhere(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, VM_EXIT_SIGNAL);
    /* A fault of our own that is blocked kills without a handler having its turn. */
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(thread, &attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

/* ---- Registering ----------------------------------------------------------------------- */

void vm_thread_init(struct vm_thread *thread, struct vm *vm, enum vm_thread_stage stage,
                    const char *name)
{
    *thread = (struct vm_thread){ .vm = vm, .stage = stage, .wake_fd = -1 };
    snprintf(thread->name, sizeof(thread->name), "%s", name);
}

void vm_thread_link(struct vm_thread *thread)
{
    thread->registered = true;
    thread->ending = false;
    thread->next = thread->vm->threads;
    thread->vm->threads = thread;
}

void vm_thread_unlink(struct vm_thread *thread)
{
    struct vm_thread **link = &thread->vm->threads;

    if (!thread->registered)
        return;
    while (*link != thread)
        link = &(*link)->next;
    *link = thread->next;
    thread->registered = false;
    pthread_cond_broadcast(&thread->vm->changed);
}

void vm_thread_register(struct vm_thread *thread, int wake_fd)
{
    thread->wake_fd = wake_fd;
    if (!thread->vm)
        return;
    pthread_mutex_lock(&thread->vm->lock);
    vm_thread_link(thread);
    pthread_mutex_unlock(&thread->vm->lock);
}

void vm_thread_unregister(struct vm_thread *thread)
{
    if (!thread->vm)
        return;
    pthread_mutex_lock(&thread->vm->lock);
    vm_thread_unlink(thread);
    pthread_mutex_unlock(&thread->vm->lock);
}

/* ---- Start and end ----------------------------------------------------------------------- */

static void *vm_thread_main(void *arg)
{
    struct vm_thread *thread = arg;

    thread->body(thread->arg);
    return NULL;
}

static void vm_thread_close(struct vm_thread *thread)
{
    if (thread->wake_fd >= 0)
        close(thread->wake_fd);
    thread->wake_fd = -1;
}

int vm_thread_start(struct vm_thread *thread, void (*body)(void *arg), void *arg)
{
    struct vm *vm = thread->vm;
    int err;

    thread->body = body;
    thread->arg = arg;
    if (thread->stage == VM_THREAD_BACK) {
        thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (thread->wake_fd < 0)
            return -errno;
    }
    if (vm)
        pthread_mutex_lock(&vm->lock);
    err = thread_create(&thread->thread, vm_thread_main, thread, THREAD_ANYWHERE);
    thread->started = thread->own = !err;
    if (vm) {
        if (!err)
            vm_thread_link(thread);
        pthread_mutex_unlock(&vm->lock);
    }
    if (err)
        vm_thread_close(thread);
    return err;
}

/* 0, or another number: not yet. */
static int vm_thread_join_within(pthread_t thread, int ms)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += ms * 1000000l;
    limit.tv_sec += limit.tv_nsec / 1000000000l;
    limit.tv_nsec %= 1000000000l;
    return pthread_timedjoin_np(thread, NULL, &limit);
}

void vm_thread_end(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;

    if (!thread->started)
        return;
    if (vm) {
        pthread_mutex_lock(&vm->lock);
        thread->ending = true;
        pthread_cond_broadcast(&vm->changed);
        pthread_mutex_unlock(&vm->lock);
    }
    vm_thread_wake(thread);
    if (thread->stage == VM_THREAD_BACK)
        pthread_join(thread->thread, NULL);
    else
        while (vm_thread_join_within(thread->thread, SIGNAL_INTERVAL_MS))
            pthread_kill(thread->thread, VM_EXIT_SIGNAL);
    thread->started = false;
    vm_thread_unregister(thread);
    vm_thread_close(thread);
}

/* ---- Park points ------------------------------------------------------------------------- */

/* Under the VM's lock. */
static bool vm_thread_must_wait(const struct vm_thread *thread)
{
    const struct vm *vm = thread->vm;

    if (!vm->pause_depth || pthread_equal(vm->pauser, pthread_self()))
        return false;
    if (thread->stage == VM_THREAD_FRONT)
        return vm->end.reason == VM_END_NONE;
    return atomic_load(&vm->hold_request) && !thread->ending && !atomic_load(&thread->in_flight);
}

/* Whether it has to look under the lock; the other half of vm_pause's flags (vm_run.c). */
static bool vm_thread_asked(const struct vm_thread *thread)
{
    return atomic_load(thread->stage == VM_THREAD_FRONT ? &thread->vm->exit_request
                                                        : &thread->vm->hold_request);
}

bool vm_thread_park(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;
    bool parked = false, go_on;

    if (!vm || !vm_thread_asked(thread))
        return true;
    pthread_mutex_lock(&vm->lock);
    while (vm_thread_must_wait(thread)) {
        if (!parked) {
            atomic_fetch_sub(&thread->running, 1);
            pthread_cond_broadcast(&vm->changed);
        }
        parked = true;
        pthread_cond_wait(&vm->changed, &vm->lock);
    }
    if (parked)
        atomic_fetch_add(&thread->running, 1);
    go_on = thread->stage == VM_THREAD_BACK || vm->end.reason == VM_END_NONE;
    pthread_mutex_unlock(&vm->lock);
    return go_on;
}

/*
 * `running` is stored before the flag is loaded, and vm_pause stores the flag before it loads
 * `running`, all in one order: so one of the two sees the other.
 */
bool vm_thread_enter(struct vm_thread *thread)
{
    if (!thread->vm)
        return true;
    atomic_fetch_add(&thread->running, 1);
    return vm_thread_asked(thread) ? vm_thread_park(thread) : true;
}

void vm_thread_leave(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;

    if (!vm)
        return;
    atomic_fetch_sub(&thread->running, 1);
    if (!atomic_load(&vm->exit_request))
        return;
    pthread_mutex_lock(&vm->lock);
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

bool vm_thread_try_enter(struct vm_thread *thread)
{
    struct vm *vm = thread->vm;
    bool inside = true;

    if (!vm)
        return true;
    atomic_fetch_add(&thread->running, 1);
    if (!vm_thread_asked(thread))
        return true;
    pthread_mutex_lock(&vm->lock);
    if (vm_thread_must_wait(thread)) {
        inside = false;
        atomic_store(&thread->resumed, true);
        atomic_fetch_sub(&thread->running, 1);
        pthread_cond_broadcast(&vm->changed);
    }
    pthread_mutex_unlock(&vm->lock);
    return inside;
}

bool vm_thread_is_held(struct vm_thread *thread)
{
    bool held = false;

    if (!thread->vm || !vm_thread_asked(thread))
        return false;
    pthread_mutex_lock(&thread->vm->lock);
    if (atomic_load(&thread->vm->hold_request) && !thread->ending) {
        atomic_store(&thread->resumed, true);
        held = true;
    }
    pthread_mutex_unlock(&thread->vm->lock);
    return held;
}

void vm_thread_set_in_flight(struct vm_thread *thread, bool in_flight)
{
    if (atomic_load_explicit(&thread->in_flight, memory_order_relaxed) != in_flight)
        atomic_store(&thread->in_flight, in_flight);
}

/* ---- Waking ------------------------------------------------------------------------------ */

void vm_thread_wake(const struct vm_thread *thread)
{
    uint64_t one = 1;

    /* It can only fail where the counter is full, and the thread has to look anyway. */
    if (thread->wake_fd >= 0)
        (void)!write(thread->wake_fd, &one, sizeof(one));
}

void vm_thread_woken(const struct vm_thread *thread)
{
    uint64_t counter;

    (void)!read(thread->wake_fd, &counter, sizeof(counter));
}
