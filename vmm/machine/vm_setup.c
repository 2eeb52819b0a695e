#include "vmm/machine/vm_setup.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/cpu_template.h"
#include "vmm/machine/cpuid.h"
#include "vmm/machine/cpuid_mask.h"
#include "vmm/machine/vm.h"

/*
 * The thread waits for vm_create only some 100 µs, less than a wake-up across CPUs takes
 * and costs both sides: it looks this often, always giving way, before it sleeps. On a
 * single CPU that would only keep vm_create from getting there.
 */
#define YIELDS 500

struct vm_setup {
    struct vm *vm;
    pthread_t thread;
    bool has_thread;   /* not joined yet */
    cpu_set_t allowed; /* where the thread may run once it is in no hurry */
    /* Under the VM's lock. */
    bool has_vm;
    int vm_fd;                   /* once it has one: or -errno */
    _Atomic enum vm_stage stage; /* also looked at without */
    bool done;
    int err; /* once it is done */
    void (*beside)(void *arg);
    void *arg;

    struct cpuid_table table; /* last, as nothing has to clear it */
};

/* False: vm_create failed before. */
static bool await(struct vm_setup *setup, enum vm_stage stage)
{
    struct vm *vm = setup->vm;
    unsigned yields = CPU_COUNT(&setup->allowed) > 1 ? YIELDS : 0;
    bool reached;

    for (unsigned i = 0; i < yields && atomic_load(&setup->stage) < stage; i++)
        sched_yield();
    pthread_mutex_lock(&vm->lock);
    while (setup->stage < stage)
        pthread_cond_wait(&vm->changed, &vm->lock);
    reached = setup->stage != VM_STAGE_FAILED;
    pthread_mutex_unlock(&vm->lock);
    return reached;
}

/* What was asked for, and for a kernel that uses all it finds what this host needs. */
static void mask_features(struct vm *vm, struct cpuid_table *table)
{
    struct cpuid_mask mask = { .template = false };

    if (vm->params.cpuid)
        mask = *vm->params.cpuid;
    if (vm->params.pc)
        vm->cpu_template = cpu_template_apply(&mask);
    if (vm->params.cpuid || vm->cpu_template)
        (void)cpuid_mask_apply(&mask, table);
}

static void create_vm(struct vm_setup *setup)
{
    struct vm *vm = setup->vm;
    int fd = kvm_create_vm(vm->host);

    pthread_mutex_lock(&vm->lock);
    setup->vm_fd = fd;
    setup->has_vm = true;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

static int set_up(struct vm_setup *setup)
{
    struct vm *vm = setup->vm;
    int err;

    if (vm->params.prepare && !setup->has_vm)
        create_vm(setup);
    err = cpuid_fetch(vm->host->fd, &setup->table);
    if (!err)
        err = cpuid_prepare(&setup->table, vm->ncpus,
                            kvm_capability(vm->host, KVM_CAP_TSC_DEADLINE_TIMER));
    if (!err)
        mask_features(vm, &setup->table);
    if (vm->ncpus > 1 && !await(setup, VM_STAGE_MACHINE))
        return err;
    for (unsigned i = 1; i < vm->ncpus && !err; i++)
        err = vcpu_create(&vm->vcpus[i], vm, i);
    if (!await(setup, VM_STAGE_BOOT_CPU) || err)
        return err;
    if (vm->params.pc)
        err = cpuid_tell_tsc(&setup->table, vcpu_tsc_hz(&vm->vcpus[0]));
    return err ? err : vcpu_set_cpuid(&vm->vcpus[0], &setup->table);
}

static void set_up_and_say(struct vm_setup *setup)
{
    struct vm *vm = setup->vm;
    int err = set_up(setup);

    pthread_mutex_lock(&vm->lock);
    setup->err = err;
    setup->done = true;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

static void *setup_thread(void *arg)
{
    struct vm_setup *setup = arg;

    if (!setup->done)
        set_up_and_say(setup);
    if (await(setup, VM_STAGE_RELEASED) && setup->beside) {
        sched_setaffinity(0, sizeof(setup->allowed), &setup->allowed);
        setup->beside(setup->arg);
    }
    return NULL;
}

/*
 * No vm_thread: before the VM runs nothing pauses it; from then on the thread is the caller's
 * `beside`, which touches the guest only by calls that a pause makes wait or refuses.
 */
static int start_thread(struct vm_setup *setup)
{
    int err = thread_create(&setup->thread, setup_thread, setup, THREAD_ELSEWHERE);

    setup->has_thread = !err;
    return err;
}

/*
 * On a single CPU nothing is gained by a second thread, but waits for each other; unless there is
 * work to do while KVM waits for a grace period of the host's kernel.
 */
int vm_setup_start(struct vm *vm)
{
    struct vm_setup *setup = malloc(sizeof(*setup));
    int err;

    if (!setup)
        return -ENOMEM;
    memset(setup, 0, offsetof(struct vm_setup, table));
    setup->vm = vm;
    vm->setup = setup;
    sched_getaffinity(0, sizeof(setup->allowed), &setup->allowed);
    err = CPU_COUNT(&setup->allowed) > 1 || vm->params.prepare ? start_thread(setup) : 0;
    if (err)
        free(setup);
    return err;
}

int vm_setup_take_vm(struct vm *vm)
{
    struct vm_setup *setup = vm->setup;
    int fd;

    if (!setup->has_thread)
        create_vm(setup);
    pthread_mutex_lock(&vm->lock);
    while (!setup->has_vm)
        pthread_cond_wait(&vm->changed, &vm->lock);
    fd = setup->vm_fd;
    pthread_mutex_unlock(&vm->lock);
    return fd;
}

void vm_setup_reached(struct vm *vm, enum vm_stage stage)
{
    pthread_mutex_lock(&vm->lock);
    if (vm->setup->stage < stage)
        vm->setup->stage = stage;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

int vm_setup_finish(struct vm *vm)
{
    struct vm_setup *setup = vm->setup;
    int err;

    if (!setup->has_thread && !setup->done)
        set_up_and_say(setup);
    pthread_mutex_lock(&vm->lock);
    while (!setup->done)
        pthread_cond_wait(&vm->changed, &vm->lock);
    err = setup->err;
    pthread_mutex_unlock(&vm->lock);
    vm->cpuid = &setup->table;
    return err;
}

int vm_setup_release(struct vm *vm, void (*beside)(void *arg), void *arg)
{
    struct vm_setup *setup = vm->setup;
    int err = beside && !setup->has_thread ? start_thread(setup) : 0;

    if (err)
        return err;
    setup->beside = beside;
    setup->arg = arg;
    vm_setup_reached(vm, VM_STAGE_RELEASED);
    return 0;
}

void vm_setup_join(struct vm *vm)
{
    if (vm->setup->has_thread)
        pthread_join(vm->setup->thread, NULL);
    vm->setup->has_thread = false;
}

void vm_setup_destroy(struct vm *vm)
{
    vm_setup_reached(vm, VM_STAGE_FAILED);
    vm_setup_join(vm);
    free(vm->setup);
    vm->setup = NULL;
}
