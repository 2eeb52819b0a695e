#include "vmm/machine/vm_run.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/machine/vm.h"
#include "vmm/machine/vm_setup.h"

/*
 * A signal that arrives between a thread's look at `exit_request` and its next blocking
 * system call is lost on that call (KVM_RUN has immediate_exit against this, others
 * have not), so a thread that waits for the vCPUs asks again.
 */
#define EXIT_REQUEST_INTERVAL_MS 10

/* ---- Asking threads to stand still ------------------------------------------------------- */

/* Under the lock. */
static void vm_request_exit_of(struct vm_thread *thread)
{
    if (thread->stage != VM_THREAD_FRONT || !atomic_load(&thread->running))
        return;
    /* Pairs with the clearing in vcpu_park, which is under the lock too. */
    if (thread->vcpu && thread->vcpu->run)
        __atomic_store_n(&thread->vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (thread->started)
        pthread_kill(thread->thread, VM_EXIT_SIGNAL);
}

/* Under the lock. Gets every other vCPU out of KVM_RUN, or keeps it from entering. */
static void vm_request_exits(struct vm *vm, const struct vcpu *self)
{
    for (struct vm_thread *thread = vm->threads; thread; thread = thread->next) {
        if (!self || thread != &self->thread)
            vm_request_exit_of(thread);
    }
}

/* Under the lock: a thread of this stage that does not stand still; NULL: none. */
static const struct vm_thread *vm_running_thread(const struct vm *vm, enum vm_thread_stage stage)
{
    for (const struct vm_thread *thread = vm->threads; thread; thread = thread->next) {
        if (thread->stage == stage &&
            (atomic_load(&thread->running) || atomic_load(&thread->in_flight)))
            return thread;
    }
    return NULL;
}

/* Under the lock. Waits for a change, at most until the deadline (NULL: none). */
static bool vm_wait_until(struct vm *vm, const struct timespec *deadline)
{
    if (!deadline)
        return pthread_cond_wait(&vm->changed, &vm->lock) == 0;
    return pthread_cond_timedwait(&vm->changed, &vm->lock, deadline) == 0;
}

static struct timespec vm_deadline(int ms)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += ms / 1000;
    time.tv_nsec += ms % 1000 * 1000000l;
    if (time.tv_nsec >= 1000000000l) {
        time.tv_nsec -= 1000000000l;
        time.tv_sec++;
    }
    return time;
}

static bool vm_is_earlier(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* ---- Start and end ----------------------------------------------------------------------- */

static void *vm_vcpu_main(void *arg)
{
    struct vcpu *vcpu = arg;
    struct vm *vm = vcpu->vm;

    vcpu_run(vcpu);
    vm_thread_leave(&vcpu->thread);
    pthread_mutex_lock(&vm->lock);
    vm_thread_unlink(&vcpu->thread);
    vm->vcpus_left--;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    return NULL;
}

/* Threads for the vCPUs from `first` on; those before it run on the calling thread. */
static int vm_start_from(struct vm *vm, unsigned first)
{
    int err = 0;

    /* Threads that come up meanwhile wait for the lock only if they are to stop. */
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->ncpus && !err; i++) {
        struct vm_thread *thread = &vm->vcpus[i].thread;

        thread->own = i >= first;
        thread->thread = pthread_self();
        atomic_store(&thread->running, 1);
        vm_thread_link(thread);
        if (thread->own)
            err = thread_create(&thread->thread, vm_vcpu_main, &vm->vcpus[i], THREAD_ANYWHERE);
        if (err) {
            vm_thread_unlink(thread);
            break;
        }
        thread->started = true;
        vm->vcpus_left++;
    }
    pthread_mutex_unlock(&vm->lock);
    return err;
}

/* After vm_start_from failed half-way. */
static int vm_undo_start(struct vm *vm, unsigned first, int err)
{
    vm_stop(vm, VM_END_HOST_STOP, 1);
    if (first && vm->vcpus[0].thread.started)
        vm_vcpu_main(&vm->vcpus[0]);
    vm_wait(vm, -1);
    return err;
}

int vm_start(struct vm *vm)
{
    int err = vm_setup_finish(vm);

    if (err)
        return err;
    (void)vm_setup_release(vm, NULL, NULL); /* no thread is needed for nothing */
    err = vm_start_from(vm, 0);
    return err ? vm_undo_start(vm, 0, err) : 0;
}

int vm_run(struct vm *vm, void (*beside)(void *arg), void *arg)
{
    sigset_t exit_only;
    int err = vm_setup_finish(vm);

    if (err)
        return err;
    sigemptyset(&exit_only);
    sigaddset(&exit_only, VM_EXIT_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &exit_only, NULL);
    err = vm_setup_release(vm, beside, arg);
    if (err)
        return err;
    err = vm_start_from(vm, 1);
    if (err)
        err = vm_undo_start(vm, 1, err);
    else
        vm_vcpu_main(&vm->vcpus[0]);
    vm_setup_join(vm);
    return err;
}

static void vm_stop_with(struct vm *vm, struct vm_end end)
{
    const struct vcpu *self = NULL;
    uint64_t one = 1;

    end.vcpu = VM_NO_VCPU;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        const struct vm_thread *thread = &vm->vcpus[i].thread;

        if (thread->started && pthread_equal(thread->thread, pthread_self())) {
            self = &vm->vcpus[i];
            end.vcpu = i;
        }
    }
    if (vm->end.reason == VM_END_NONE) {
        vm->end = end;
        atomic_store(&vm->exit_request, true);
        pthread_cond_broadcast(&vm->changed);
        /* Cannot fail: the counter is far from its limit. */
        if (write(vm->end_fd, &one, sizeof(one)) < 0)
            vm->end.error = -errno;
    }
    vm_request_exits(vm, self);
    pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm, enum vm_end_reason reason, int status)
{
    vm_stop_with(vm, (struct vm_end){ .reason = reason, .status = status });
}

void vm_stop_errno(struct vm *vm, int error)
{
    vm_stop_with(vm, (struct vm_end){ .reason = VM_END_RUN_ERROR, .status = 1, .error = error });
}

/* Once, by the first of several waiters. */
static void vm_join_vcpu(struct vcpu *vcpu)
{
    struct vm_thread *thread = &vcpu->thread;
    bool ours;

    pthread_mutex_lock(&vcpu->vm->lock);
    ours = thread->started && thread->own;
    thread->started = false;
    pthread_mutex_unlock(&vcpu->vm->lock);
    if (ours)
        pthread_join(thread->thread, NULL);
}

int vm_wait(struct vm *vm, int timeout_ms)
{
    struct timespec limit = vm_deadline(timeout_ms < 0 ? 0 : timeout_ms);
    struct timespec next;
    int err = 0;

    pthread_mutex_lock(&vm->lock);
    /* During vm_run it may be called before the first thread is there. */
    while ((vm->vcpus_left || vm->end.reason == VM_END_NONE) && !err) {
        if (vm->end.reason == VM_END_NONE) {
            if (!vm_wait_until(vm, timeout_ms < 0 ? NULL : &limit))
                err = -ETIMEDOUT;
            continue;
        }
        vm_request_exits(vm, NULL);
        next = vm_deadline(EXIT_REQUEST_INTERVAL_MS);
        if (timeout_ms >= 0 && vm_is_earlier(&limit, &next))
            next = limit;
        if (!vm_wait_until(vm, &next) && timeout_ms >= 0 && !vm_is_earlier(&next, &limit))
            err = -ETIMEDOUT;
    }
    pthread_mutex_unlock(&vm->lock);
    if (err)
        return err;
    for (unsigned i = 0; i < vm->ncpus; i++)
        vm_join_vcpu(&vm->vcpus[i]);
    return 0;
}

/* ---- Pausing ----------------------------------------------------------------------------- */

static bool vm_held_by_other(const struct vm *vm)
{
    return vm->pause_depth && !pthread_equal(vm->pauser, pthread_self());
}

bool vcpu_park(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool go_on = vm_thread_park(&vcpu->thread);

    if (!go_on || !vcpu->run)
        return go_on;
    pthread_mutex_lock(&vm->lock);
    /* A request that came since then stays: KVM_RUN is to return at once. */
    if (!vm_held_by_other(vm) && vm->end.reason == VM_END_NONE)
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&vm->lock);
    return true;
}

bool vcpu_is_running(const struct vcpu *vcpu)
{
    return atomic_load(&vcpu->thread.running) != 0;
}

/* Under the lock: the threads that wait to run, or to pause, go on. */
static void vm_end_pause(struct vm *vm)
{
    vm->pause_depth = 0;
    atomic_store(&vm->hold_request, false);
    atomic_store(&vm->exit_request, vm->end.reason != VM_END_NONE);
    for (struct vm_thread *thread = vm->threads; thread; thread = thread->next) {
        if (atomic_exchange(&thread->resumed, false))
            vm_thread_wake(thread);
    }
    pthread_cond_broadcast(&vm->changed);
}

/* Under the lock. Until all threads of the stage stand still; false: the deadline came first. */
static bool vm_await_stage(struct vm *vm, const struct vcpu *self, enum vm_thread_stage stage,
                           const struct timespec *deadline)
{
    while (vm_running_thread(vm, stage)) {
        struct timespec now = vm_deadline(0), next = vm_deadline(EXIT_REQUEST_INTERVAL_MS);

        if (deadline && vm_is_earlier(deadline, &now))
            return false;
        vm_request_exits(vm, self);
        vm_wait_until(vm, &next);
    }
    return true;
}

/* Under the lock. Nothing is paused where the deadline (NULL: none) comes first. */
static int vm_pause_until(struct vm *vm, struct vcpu *self, const struct timespec *deadline)
{
    if (vm->pause_depth && !vm_held_by_other(vm)) {
        vm->pause_depth++;
        return 0;
    }
    if (self) {
        atomic_fetch_sub(&self->thread.running, 1);
        pthread_cond_broadcast(&vm->changed);
    }
    while (vm->pause_depth && vm->end.reason == VM_END_NONE) {
        if (!vm_wait_until(vm, deadline) && deadline)
            return -ETIMEDOUT;
    }
    if (vm->pause_depth) {
        /* Ending while another thread has it paused: no vCPU runs any more. */
        if (self)
            atomic_fetch_add(&self->thread.running, 1);
        return 0;
    }
    vm->pause_depth = 1;
    vm->pauser = pthread_self();
    /* Before `running` is looked at: pairs with vm_thread_enter. */
    atomic_store(&vm->exit_request, true);
    if (!vm_await_stage(vm, self, VM_THREAD_FRONT, deadline))
        return -ETIMEDOUT;
    atomic_store(&vm->hold_request, true);
    if (!vm_await_stage(vm, self, VM_THREAD_BACK, deadline))
        return -ETIMEDOUT;
    return 0;
}

void vm_pause(struct vm *vm, struct vcpu *self)
{
    pthread_mutex_lock(&vm->lock);
    vm_pause_until(vm, self, NULL);
    pthread_mutex_unlock(&vm->lock);
}

int vm_pause_within(struct vm *vm, int timeout_ms, char stuck[VM_THREAD_NAME_BYTES])
{
    struct timespec deadline = vm_deadline(timeout_ms);
    const struct vm_thread *thread = NULL;
    int err;

    pthread_mutex_lock(&vm->lock);
    err = vm_pause_until(vm, NULL, &deadline);
    if (err && vm->pause_depth && !vm_held_by_other(vm)) {
        thread = vm_running_thread(vm, VM_THREAD_FRONT);
        if (!thread)
            thread = vm_running_thread(vm, VM_THREAD_BACK);
        vm_end_pause(vm);
    }
    snprintf(stuck, VM_THREAD_NAME_BYTES, "%s", thread ? thread->name : "");
    pthread_mutex_unlock(&vm->lock);
    return err;
}

void vm_resume(struct vm *vm, struct vcpu *self)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->pause_depth && !vm_held_by_other(vm) && --vm->pause_depth == 0) {
        vm_end_pause(vm);
        if (self)
            atomic_fetch_add(&self->thread.running, 1);
    }
    pthread_mutex_unlock(&vm->lock);
}

const char *vm_end_name(enum vm_end_reason reason)
{
    static const char *const names[] = {
        [VM_END_NONE] = "still running",
        [VM_END_GUEST_EXIT] = "guest exit",
        [VM_END_GUEST_RESET] = "guest reset",
        [VM_END_GUEST_PANIC] = "guest panic",
        [VM_END_TRIPLE_FAULT] = "triple fault",
        [VM_END_INTERNAL_ERROR] = "KVM internal error",
        [VM_END_FAIL_ENTRY] = "KVM failed to enter the guest",
        [VM_END_UNKNOWN_EXIT] = "unknown exit",
        [VM_END_RUN_ERROR] = "KVM_RUN failed",
        [VM_END_HOST_STOP] = "stopped by the host",
        [VM_END_HUNG] = "no progress",
    };
    return names[reason];
}
