#include "vmm/launch/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the guest's kernel is told (guest/abi/machine.h). */
static const char *const machine_dma_modes[] = {
    [VM_IOMMU_OFF] = "off",
    [VM_IOMMU_BYPASS] = "identity",
    [VM_IOMMU_STRICT] = "DMA",
    [VM_IOMMU_LAZY] = "DMA-FQ",
};

static struct boot_source machine_source(const struct vm_config *config)
{
    return (struct boot_source){ .kernel_path = config->kernel_path,
                                 .initrd_path = config->initrd_path,
                                 .modules = config->modules,
                                 .nmodules = config->nmodules,
                                 .flat = config->flat,
                                 .boot_args = config->boot_args,
                                 .dma_mode = machine_dma_modes[config->iommu],
                                 .policy = config->policy };
}

/* A root disk is the first one, and a kernel of one's own is told so. */
static int machine_add_root(struct machine *machine)
{
    const struct vm_config *config = machine->config;
    const char *args = config->boot_args ? config->boot_args : "";
    const struct config_device *root = NULL;

    for (unsigned i = 0; i < config->ndevices; i++) {
        if (config->devices[i].root)
            root = &config->devices[i];
    }
    if (!root || !config->kernel_path || strncmp(args, "root=", 5) == 0 || strstr(args, " root="))
        return 0;
    if (asprintf(&machine->boot_args, "%s%sroot=/dev/vda %s", args, *args ? " " : "",
                 root->read_only ? "ro" : "rw") < 0)
        return -ENOMEM;
    machine->source.boot_args = machine->boot_args;
    return 0;
}

static struct vm_params machine_params(const struct vm_config *config)
{
    bool automatic = config->huge_pages == VM_CONFIG_PAGES_AUTO;

    return (struct vm_params){
        .memory_bytes = config->memory_bytes,
        .ncpus = config->vcpu_count,
        .backing = automatic ? MEMORY_4K : (enum memory_backing)config->huge_pages,
        .dirty_ring_bytes = config->dirty_ring_bytes,
        .pc = config_is_pc(config),
        .cpuid = config->cpuid ? &config->cpuid_mask : NULL,
    };
}

static void machine_net(struct net_config *net, const struct config_device *device, unsigned n)
{
    static const uint8_t unset[NET_MAC_BYTES];

    *net = (struct net_config){ .tap = device->tap, .nforwards = device->nforwards };
    memcpy(net->forwards, device->forwards, sizeof(net->forwards));
    if (memcmp(device->mac, unset, sizeof(unset)) == 0)
        net_default_mac(net, n, net->mac);
    else
        memcpy(net->mac, device->mac, sizeof(net->mac));
}

/* What the board is given: it knows nothing of configurations. */
static struct board_config machine_board(struct machine *machine, const struct vm_config *config,
                                         const struct machine_hooks *hooks)
{
    bool automatic = config->debug_exit_port == VM_CONFIG_DEBUG_EXIT_AUTO;
    bool ports_placed = false;
    unsigned nnets = 0;

    for (unsigned i = 0; i < config->ndevices; i++) {
        const struct config_device *from = &config->devices[i];
        struct device_config *to = &machine->devices[i];

        *to = (struct device_config){ .kind = from->kind,
                                      .endpoint = from->endpoint,
                                      .path = from->path,
                                      .read_only = from->read_only,
                                      .latency_ns = from->latency_ns,
                                      .bytes = from->bytes,
                                      .guest_cid = from->guest_cid,
                                      .ports_only = from->ports_only };
        if (from->kind == DEVICE_NET) {
            machine_net(&machine->nets[nnets], from, nnets);
            to->net = &machine->nets[nnets++];
        }
        if (from->kind == DEVICE_CONSOLE && !ports_placed) {
            to->ports = config->ports;
            to->nports = config->nports;
            ports_placed = true;
        }
    }
    return (struct board_config){ .devices = machine->devices,
                                  .ndevices = config->ndevices,
                                  .iommu = config_has_iommu(config),
                                  .iommu_config = config->iommu_config,
                                  .pc = config_is_pc(config),
                                  .io_thread = config->io_thread,
                                  .console_out_fd = hooks->console_out_fd,
                                  .console_input_ready_fd = hooks->console_input_ready_fd,
                                  .debug_exit_port = automatic ? 0
                                                               : (uint16_t)config->debug_exit_port,
                                  .checkpoint = hooks->checkpoint,
                                  .checkpoint_owner = hooks->checkpoint_owner };
}

/* Why there is no VM, in terms of what was asked for as far as that is why. */
static int machine_vm_error(const struct kvm_host *host, const struct vm_config *config, int err,
                            struct error *error)
{
    int max = kvm_capability(host, KVM_CAP_MAX_VCPUS);
    unsigned long long mib = (unsigned long long)(config->memory_bytes >> 20);

    if (config->huge_pages == MEMORY_HUGETLB_1G && err == -ENOMEM)
        return error_field(error, err, "machine-config.huge_pages",
                           "too few free pages of 1 GiB for %llu MiB; reserve them with "
                           "hugepagesz=1G hugepages=%llu on the host kernel's command line",
                           mib, (unsigned long long)(config->memory_bytes / MEMORY_GIANT_BYTES));
    if (config->huge_pages == MEMORY_HUGETLB && err == -ENOMEM)
        return error_field(error, err, "machine-config.huge_pages",
                           "too few free huge pages for %llu MiB; reserve them with sysctl "
                           "vm.nr_hugepages=%llu",
                           mib, (unsigned long long)(config->memory_bytes / MEMORY_HUGE_BYTES));
    if (config->vcpu_count > 1 && max > 0 && config->vcpu_count > (unsigned)max)
        return error_field(error, err, BOOT_FIELD_CPUS, "this KVM allows %d, not %u; give fewer",
                           max, config->vcpu_count);
    if (err == -ENOMEM)
        return error_field(error, err, BOOT_FIELD_MEMORY,
                           "no room for a machine with %llu MiB; give less", mib);
    return error_set(error, err, "cannot create a virtual machine: %s", strerror(-err));
}

int machine_create(struct machine *machine, const struct kvm_host *host,
                   const struct vm_config *config, const struct machine_hooks *hooks,
                   struct error *error)
{
    struct vm_params params = machine_params(config);
    struct board_config board_config = machine_board(machine, config, hooks);
    int err;

    machine->config = config;
    machine->source = machine_source(config);
    machine->boot_args = NULL;
    machine->step = MACHINE_STEP_VM;
    if (machine_add_root(machine))
        return error_set(error, -ENOMEM, "out of memory");
    machine->preloaded = boot_wants_preload(&machine->source);
    if (machine->preloaded)
        boot_preload(&machine->preload, &machine->source, &params);
    err = vm_create(&machine->vm, host, &params);
    if (err) {
        if (machine->preloaded && machine->preload.error.code) {
            *error = machine->preload.error;
            machine->step = MACHINE_STEP_BOOT;
        } else {
            machine_vm_error(host, config, err, error);
        }
        goto drop_kernel;
    }
    machine->step = MACHINE_STEP_DEVICES;
    err = board_create(&machine->board, &machine->vm, &board_config);
    if (!err)
        return 0;
    if (machine->board.error[0])
        error_set(error, err, "%s", machine->board.error);
    else
        error_set(error, err, "cannot create the devices: %s", strerror(-err));
    vm_destroy(&machine->vm);

drop_kernel:
    if (machine->preloaded)
        boot_preload_drop(&machine->preload);
    free(machine->boot_args);
    return err;
}

int machine_boot(struct machine *machine, struct error *error)
{
    machine->step = MACHINE_STEP_BOOT;
    return machine->preloaded
               ? boot_preload_finish(&machine->preload, &machine->vm, &machine->board, error)
               : boot(&machine->vm, &machine->board, &machine->source, error);
}

/* Its CPUs could not all be made or started. */
static int machine_run_error(struct machine *machine, int err, struct error *error)
{
    return err ? machine_vm_error(machine->vm.host, machine->config, err, error) : 0;
}

int machine_configure(struct machine *machine, struct error *error)
{
    machine->step = MACHINE_STEP_RUN;
    return machine_run_error(machine, vcpu_configure(&machine->vm.vcpus[0]), error);
}

int machine_run(struct machine *machine, void (*helper)(void *arg), void *arg, struct error *error)
{
    machine->step = MACHINE_STEP_RUN;
    return machine_run_error(machine, vm_run(&machine->vm, helper, arg), error);
}

int machine_start(struct machine *machine, struct error *error)
{
    machine->step = MACHINE_STEP_RUN;
    return machine_run_error(machine, vm_start(&machine->vm), error);
}

void machine_pause(struct machine *machine, struct vcpu *self)
{
    vm_pause(&machine->vm, self);
}

void machine_resume(struct machine *machine, struct vcpu *self)
{
    vm_resume(&machine->vm, self);
}

int machine_wait(struct machine *machine, int timeout_ms)
{
    return vm_wait(&machine->vm, timeout_ms);
}

void machine_stop(struct machine *machine, enum vm_end_reason reason, int status)
{
    vm_stop(&machine->vm, reason, status);
}

void machine_destroy(struct machine *machine)
{
    vm_stop(&machine->vm, VM_END_HOST_STOP, 0);
    vm_wait(&machine->vm, -1);
    board_destroy(&machine->board);
    vm_destroy(&machine->vm);
    if (machine->preloaded)
        boot_preload_drop(&machine->preload);
    free(machine->boot_args);
}
