#include "vmm/machine/vm_setup.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>

#include "vmm/machine/cpuid.h"
#include "vmm/machine/vm.h"
#include "vmm/machine/vm_threads.h"

struct vm_setup {
    struct vm *vm;
    pthread_t thread;
    bool threaded; /* thread is not joined yet */
    int err;
    enum vm_stage stage; /* under the VM's lock */
    struct cpuid_table table;
};

/* False: vm_create failed before. */
static bool await(struct vm_setup *setup, enum vm_stage stage)
{
    struct vm *vm = setup->vm;
    bool reached;

    pthread_mutex_lock(&vm->lock);
    while (setup->stage < stage)
        pthread_cond_wait(&vm->changed, &vm->lock);
    reached = setup->stage != VM_STAGE_FAILED;
    pthread_mutex_unlock(&vm->lock);
    return reached;
}

static int set_up(struct vm_setup *setup)
{
    struct vm *vm = setup->vm;
    int err = cpuid_fetch(vm->host->fd, &setup->table);

    if (!err)
        err = cpuid_shape(&setup->table, vm->ncpus,
                          kvm_capability(vm->host, KVM_CAP_TSC_DEADLINE_TIMER));
    if (!await(setup, VM_STAGE_MACHINE))
        return err;
    for (unsigned i = 1; i < vm->ncpus && !err; i++)
        err = vcpu_create(&vm->vcpus[i], vm, i);
    if (!await(setup, VM_STAGE_BOOT_CPU) || err)
        return err;
    return vcpu_set_cpuid(&vm->vcpus[0], &setup->table);
}

static void *setup_thread(void *arg)
{
    struct vm_setup *setup = arg;

    setup->err = set_up(setup);
    return NULL;
}

int vm_setup_start(struct vm *vm)
{
    struct vm_setup *setup = calloc(1, sizeof(*setup));
    int err;

    if (!setup)
        return -ENOMEM;
    setup->vm = vm;
    vm->setup = setup;
    err = thread_create(&setup->thread, setup_thread, setup, THREAD_ELSEWHERE);
    setup->threaded = !err;
    if (err)
        vm_setup_destroy(vm);
    return err;
}

void vm_setup_reached(struct vm *vm, enum vm_stage stage)
{
    pthread_mutex_lock(&vm->lock);
    vm->setup->stage = stage;
    pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

int vm_setup_finish(struct vm *vm)
{
    if (vm->setup->threaded)
        pthread_join(vm->setup->thread, NULL);
    vm->setup->threaded = false;
    vm->cpuid = &vm->setup->table;
    return vm->setup->err;
}

void vm_setup_destroy(struct vm *vm)
{
    free(vm->setup);
    vm->setup = NULL;
}
