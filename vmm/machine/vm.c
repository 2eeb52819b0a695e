#include "vmm/machine/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/machine/irq.h"
#include "vmm/machine/vm_setup.h"

/* Intel without unrestricted guest needs three pages for real mode, out of RAM's way. */
#define TSS_GPA 0xfffbd000ul

static void ignore_exit_signal(int signal_number)
{
    (void)signal_number;
}

static int allocate_vcpus(struct vm *vm)
{
    vm->vcpus = calloc(vm->ncpus, sizeof(*vm->vcpus));
    if (!vm->vcpus)
        return -ENOMEM;
    for (unsigned i = 0; i < vm->ncpus; i++)
        vm->vcpus[i] = (struct vcpu){ .vm = vm, .index = i, .fd = -1 };
    return 0;
}

static void destroy_vcpus(struct vm *vm)
{
    for (unsigned i = 0; i < vm->ncpus; i++)
        vcpu_destroy(&vm->vcpus[i]);
    free(vm->vcpus);
}

static int enable_dirty_rings(struct vm *vm)
{
    struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING,
                                  .args = { vm->params.dirty_ring_bytes } };

    return ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0 ? -errno : 0;
}

/* The VM and its memory; neither is there if it fails. */
static int create_memory(struct vm *vm)
{
    const struct vm_params *params = &vm->params;
    const struct memory_params memory = { .bytes = params->memory_bytes,
                                          .backing = params->backing,
                                          .source = params->source,
                                          .file_fd = params->memory_fd };
    bool beside = params->prepare != NULL;
    int err = 0;

    if (beside) {
        err = memory_create_from(&vm->memory, -1, &memory);
        if (!err)
            err = params->prepare(&vm->memory, params->arg);
        vm->fd = vm_setup_take_vm(vm);
    } else {
        vm->fd = kvm_create_vm(vm->host);
    }
    if (!err && vm->fd < 0)
        err = vm->fd;
    if (!err && params->dirty_ring_bytes)
        err = enable_dirty_rings(vm);
    if (!err)
        err = beside ? memory_attach(&vm->memory, vm->fd)
                     : memory_create_from(&vm->memory, vm->fd, &memory);
    if (err) {
        if (vm->fd >= 0)
            close(vm->fd);
        memory_destroy(&vm->memory);
    }
    return err;
}

int vm_create(struct vm *vm, const struct kvm_host *host, const struct vm_params *params)
{
    /* No SA_RESTART: it must end a blocking system call. */
    struct sigaction exit_signal = { .sa_handler = ignore_exit_signal };
    pthread_condattr_t attr;
    int err;

    *vm = (struct vm){ .host = host, .params = *params, .ncpus = params->ncpus };
    if (!params->ncpus || params->ncpus > VM_CPUS_MAX)
        return -EINVAL;
    sigaction(VM_EXIT_SIGNAL, &exit_signal, NULL);
    bus_init(&vm->pio, 0xffff);
    bus_init(&vm->mmio, ~0ull);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->changed, &attr);
    pthread_condattr_destroy(&attr);

    err = allocate_vcpus(vm);
    if (err)
        goto destroy_lock;
    err = vm_setup_start(vm);
    if (err)
        goto free_vcpus;
    vm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->end_fd < 0) {
        err = -errno;
        goto destroy_setup;
    }
    /* Slots first: after the TSS or the irqchip each one waits for a grace period (7 ms). */
    err = create_memory(vm);
    if (err)
        goto close_end;
    if (ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_GPA) < 0) {
        err = -errno;
        goto destroy_memory;
    }
    err = irq_create(vm);
    if (!err && vm->params.pc)
        err = irq_mask_pic(vm);
    if (err)
        goto destroy_memory;
    vm_setup_reached(vm, VM_STAGE_MACHINE);
    err = vcpu_create(&vm->vcpus[0], vm, 0);
    if (err)
        goto destroy_memory;
    vm_setup_reached(vm, VM_STAGE_BOOT_CPU);
    return 0;

destroy_memory:
    /* The other thread first: it may be about to create a vCPU. */
    vm_setup_reached(vm, VM_STAGE_FAILED);
    vm_setup_join(vm);
    memory_destroy(&vm->memory);
    close(vm->fd);
close_end:
    close(vm->end_fd);
destroy_setup:
    vm_setup_destroy(vm);
free_vcpus:
    destroy_vcpus(vm);
destroy_lock:
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    return err;
}

void vm_destroy(struct vm *vm)
{
    vm_stop(vm, VM_END_HOST_STOP, 0);
    vm_wait(vm, -1);
    vm_setup_destroy(vm);
    destroy_vcpus(vm);
    /* Closing first spares KVM from being told about every page that is unmapped. */
    close(vm->fd);
    irq_routes_destroy(&vm->irq_routes);
    memory_destroy(&vm->memory);
    close(vm->end_fd);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
}
