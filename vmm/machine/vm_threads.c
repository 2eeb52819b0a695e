#include "vmm/machine/vm.h"

#include <errno.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "vmm/machine/vm_setup.h"
#include "vmm/machine/vm_threads.h"

#define THREAD_STACK_BYTES (256ul << 10)

/*
 * A signal that arrives between a thread's look at `attention` and its next blocking
 * system call is lost on that call (KVM_RUN has immediate_exit against this, others
 * have not), so whoever waits for the vCPUs kicks again.
 */
#define KICK_INTERVAL_MS 10

static void place_elsewhere(pthread_attr_t *attr)
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
        place_elsewhere(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, VM_KICK_SIGNAL);
    /* A fault of our own that is blocked kills without a handler having its turn. */
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = pthread_create(thread, &attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

static void kick_one(struct vcpu *vcpu)
{
    if (!vcpu->active)
        return;
    /* Pairs with the clearing in vcpu_park, which is under the lock too. */
    if (vcpu->run)
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (vcpu->started)
        pthread_kill(vcpu->thread, VM_KICK_SIGNAL);
}

/* Under the lock. Gets every other vCPU out of KVM_RUN, or keeps it from entering. */
static void kick(struct vm *vm, const struct vcpu *self)
{
    for (unsigned i = 0; i < vm->ncpus; i++) {
        if (&vm->vcpus[i] != self)
            kick_one(&vm->vcpus[i]);
    }
    if (vm->worker && vm->worker != self)
        kick_one(vm->worker);
}

/* Under the lock. */
static void set_active(struct vcpu *vcpu, bool active)
{
    struct vm *vm = vcpu->vm;

    if (vcpu->active == active)
        return;
    vcpu->active = active;
    vm->active += active ? 1u : -1u;
    pthread_cond_broadcast(&vm->changed);
}

/* Under the lock. Waits for a change, at most until the deadline (NULL: none). */
static bool wait_until(struct vm *vm, const struct timespec *deadline)
{
    if (!deadline)
        return pthread_cond_wait(&vm->changed, &vm->lock) == 0;
    return pthread_cond_timedwait(&vm->changed, &vm->lock, deadline) == 0;
}

static struct timespec from_now(int ms)
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

static bool earlier(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static void *vcpu_thread(void *arg)
{
    struct vcpu *vcpu = arg;
    struct vm *vm = vcpu->vm;

    vcpu_run(vcpu);
    pthread_mutex_lock(&vm->lock);
    set_active(vcpu, false);
    vm->threads--;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
    return NULL;
}

/* Threads for the vCPUs from `first` on; those before it run on the calling thread. */
static int start_from(struct vm *vm, unsigned first)
{
    int err = 0;

    /* Threads that come up meanwhile wait for the lock only if they are to stop. */
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->ncpus && !err; i++) {
        struct vcpu *vcpu = &vm->vcpus[i];

        vcpu->own = i >= first;
        vcpu->thread = pthread_self();
        err = vcpu->own ? thread_create(&vcpu->thread, vcpu_thread, vcpu, THREAD_ANYWHERE) : 0;
        if (err)
            break;
        vcpu->started = true;
        vm->threads++;
        set_active(vcpu, true);
    }
    pthread_mutex_unlock(&vm->lock);
    return err;
}

/* After start_from failed half-way. */
static int undo_start(struct vm *vm, unsigned first, int err)
{
    vm_stop(vm, VM_END_HOST_STOP, 1);
    if (first && vm->vcpus[0].started)
        vcpu_thread(&vm->vcpus[0]);
    vm_wait(vm, -1);
    return err;
}

int vm_start(struct vm *vm)
{
    int err = vm_setup_finish(vm);

    if (err)
        return err;
    vm_setup_release(vm, NULL, NULL);
    err = start_from(vm, 0);
    return err ? undo_start(vm, 0, err) : 0;
}

int vm_run(struct vm *vm, void (*beside)(void *arg), void *arg)
{
    sigset_t kick_only;
    int err = vm_setup_finish(vm);

    if (err)
        return err;
    sigemptyset(&kick_only);
    sigaddset(&kick_only, VM_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick_only, NULL);
    vm_setup_release(vm, beside, arg);
    err = start_from(vm, 1);
    if (err)
        err = undo_start(vm, 1, err);
    else
        vcpu_thread(&vm->vcpus[0]);
    vm_setup_join(vm);
    return err;
}

static void stop(struct vm *vm, struct vm_end end)
{
    const struct vcpu *self = NULL;
    uint64_t one = 1;

    end.vcpu = VM_NO_VCPU;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        if (vm->vcpus[i].started && pthread_equal(vm->vcpus[i].thread, pthread_self())) {
            self = &vm->vcpus[i];
            end.vcpu = i;
        }
    }
    if (vm->end.reason == VM_END_NONE) {
        vm->end = end;
        atomic_store(&vm->attention, true);
        pthread_cond_broadcast(&vm->changed);
        /* Cannot fail: the counter is far from its limit. */
        if (write(vm->end_fd, &one, sizeof(one)) < 0)
            vm->end.error = -errno;
    }
    kick(vm, self);
    pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm, enum vm_end_reason reason, int status)
{
    stop(vm, (struct vm_end){ .reason = reason, .status = status });
}

void vm_stop_errno(struct vm *vm, int error)
{
    stop(vm, (struct vm_end){ .reason = VM_END_RUN_ERROR, .status = 1, .error = error });
}

/* Once, whoever of several waiters comes first. */
static void join_thread(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool ours;

    pthread_mutex_lock(&vm->lock);
    ours = vcpu->started && vcpu->own;
    vcpu->started = false;
    pthread_mutex_unlock(&vm->lock);
    if (ours)
        pthread_join(vcpu->thread, NULL);
}

int vm_wait(struct vm *vm, int timeout_ms)
{
    struct timespec limit = from_now(timeout_ms < 0 ? 0 : timeout_ms);
    struct timespec next;
    int err = 0;

    pthread_mutex_lock(&vm->lock);
    /* During vm_run it may be called before the first thread is there. */
    while ((vm->threads || vm->end.reason == VM_END_NONE) && !err) {
        if (vm->end.reason == VM_END_NONE) {
            if (!wait_until(vm, timeout_ms < 0 ? NULL : &limit))
                err = -ETIMEDOUT;
            continue;
        }
        kick(vm, NULL);
        next = from_now(KICK_INTERVAL_MS);
        if (timeout_ms >= 0 && earlier(&limit, &next))
            next = limit;
        if (!wait_until(vm, &next) && timeout_ms >= 0 && !earlier(&next, &limit))
            err = -ETIMEDOUT;
    }
    pthread_mutex_unlock(&vm->lock);
    if (err)
        return err;
    for (unsigned i = 0; i < vm->ncpus; i++)
        join_thread(&vm->vcpus[i]);
    return 0;
}

static bool held_by_other(const struct vm *vm)
{
    return vm->pause_depth && !pthread_equal(vm->pauser, pthread_self());
}

bool vcpu_park(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    bool go_on;

    pthread_mutex_lock(&vm->lock);
    while (held_by_other(vm) && vm->end.reason == VM_END_NONE) {
        set_active(vcpu, false);
        wait_until(vm, NULL);
    }
    set_active(vcpu, true);
    go_on = vm->end.reason == VM_END_NONE;
    if (go_on && vcpu->run)
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&vm->lock);
    return go_on;
}

void vcpu_rest(struct vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->vm->lock);
    set_active(vcpu, false);
    pthread_mutex_unlock(&vcpu->vm->lock);
}

/* Under the lock: whoever waits to run or to have the world goes on. */
static void release_world(struct vm *vm)
{
    vm->pause_depth = 0;
    atomic_store(&vm->attention, vm->end.reason != VM_END_NONE);
    pthread_cond_broadcast(&vm->changed);
}

/* Under the lock. The world stays as it was where the deadline (NULL: none) comes first. */
static int pause_until(struct vm *vm, struct vcpu *self, const struct timespec *deadline)
{
    if (vm->pause_depth && !held_by_other(vm)) {
        vm->pause_depth++;
        return 0;
    }
    if (self)
        set_active(self, false);
    while (vm->pause_depth && vm->end.reason == VM_END_NONE) {
        if (!wait_until(vm, deadline) && deadline)
            return -ETIMEDOUT;
    }
    if (vm->pause_depth) {
        /* Ending while another holds the world: nobody will run any more. */
        if (self)
            set_active(self, true);
        return 0;
    }
    vm->pause_depth = 1;
    vm->pauser = pthread_self();
    atomic_store(&vm->attention, true);
    while (vm->active) {
        struct timespec now = from_now(0), next = from_now(KICK_INTERVAL_MS);

        if (deadline && earlier(deadline, &now)) {
            release_world(vm);
            return -ETIMEDOUT;
        }
        kick(vm, self);
        wait_until(vm, &next);
    }
    return 0;
}

void vm_pause(struct vm *vm, struct vcpu *self)
{
    pthread_mutex_lock(&vm->lock);
    pause_until(vm, self, NULL);
    pthread_mutex_unlock(&vm->lock);
}

int vm_pause_within(struct vm *vm, int timeout_ms, unsigned *stuck)
{
    struct timespec deadline = from_now(timeout_ms);
    int err;

    pthread_mutex_lock(&vm->lock);
    err = pause_until(vm, NULL, &deadline);
    *stuck = VM_NO_VCPU;
    for (unsigned i = 0; err && i < vm->ncpus && *stuck == VM_NO_VCPU; i++) {
        if (vm->vcpus[i].active)
            *stuck = i;
    }
    pthread_mutex_unlock(&vm->lock);
    return err;
}

bool vcpu_is_active(const struct vcpu *vcpu)
{
    bool active;

    pthread_mutex_lock(&vcpu->vm->lock);
    active = vcpu->active;
    pthread_mutex_unlock(&vcpu->vm->lock);
    return active;
}

void vm_resume(struct vm *vm, struct vcpu *self)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->pause_depth && !held_by_other(vm) && --vm->pause_depth == 0) {
        release_world(vm);
        if (self)
            set_active(self, true);
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
