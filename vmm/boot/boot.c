#include "vmm/boot/boot.h"

#include <errno.h>
#include <string.h>

#include "guest/abi/policy.h"
#include "vmm/base/host_cpus.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/fdt.h"
#include "vmm/boot/kernel.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/mptable.h"
#include "vmm/boot/reset_vector.h"

struct vm_shape boot_shape(const struct vm_config *config)
{
    return (struct vm_shape){ .memory_bytes = config->memory_bytes,
                              .ncpus = config->vcpu_count,
                              .backing = config->huge_pages,
                              .pc = config->kernel_path != NULL,
                              .cpuid = config->cpuid };
}

struct board_config boot_board(const struct vm_config *config)
{
    return (struct board_config){ .devices = config->devices,
                                  .ndevices = config->ndevices,
                                  .iommu = config->dma_mode && strcmp(config->dma_mode, "off"),
                                  .pc = config->kernel_path != NULL,
                                  .io_thread = config->io_thread,
                                  .debug_exit_port = (uint16_t)config->debug_exit_port,
                                  .console_out_fd = -1,
                                  .console_input_ready_fd = -1 };
}

/* 0 bytes for a kernel that is not given one. */
static int write_fdt(struct vm *vm, const struct board *board, const struct vm_config *config,
                     uint32_t *bytes, struct boot_error *error)
{
    struct fdt_info info = { .bootargs = config->boot_args ? config->boot_args : "",
                             .host_cpus = host_cpus(),
                             .tsc_hz = vcpu_tsc_hz(&vm->vcpus[0]),
                             .dma_mode = config->dma_mode,
                             .policy = config->policy };
    void *fdt = memory_at(&vm->memory, LAYOUT_FDT_GPA, LAYOUT_FDT_BYTES);
    /* libfdt clears what it is given, and each page costs: no more than it takes. */
    size_t room = fdt_room(vm, board, &info);
    int size = fdt_build(fdt, room < LAYOUT_FDT_BYTES ? room : LAYOUT_FDT_BYTES, vm, board, &info);

    if (size < 0)
        return boot_fail(error, size,
                         "the device tree needs more than %llu bytes; shorten "
                         "--append or --exec",
                         LAYOUT_FDT_BYTES);
    *bytes = (uint32_t)size;
    return 0;
}

static int load(struct kernel *kernel, struct memory *memory, const struct vm_config *config,
                struct boot_error *error)
{
    int err;

    if (memory->bytes < LAYOUT_MEMORY_BYTES_MIN)
        return boot_fail(error, -ENOSPC,
                         "%llu bytes of memory are too few to boot anything; give "
                         "2M or more with --memory",
                         (unsigned long long)memory->bytes);
    err = kernel_open(kernel, config, error);
    if (err)
        return err;
    err = kernel_load(kernel, memory, error);
    if (err)
        kernel_close(kernel);
    return err;
}

/* With the kernel loaded; closes it. */
static int finish(struct vm *vm, struct board *board, struct kernel *kernel,
                  struct boot_error *error)
{
    const struct vm_config *config = kernel->config;
    struct kernel_info info = { .fdt_bytes = 0 };
    int err = 0;

    /* The bundled guest looks at the device tree alone, and has no time to lose. */
    if (config->kernel_path)
        err = acpi_write(vm, board, &info.rsdp_gpa, error);
    if (!err && config->kernel_path)
        err = mptable_write(vm, board, error);
    if (!err && config->kernel_path)
        err = reset_vector_write(&vm->memory, error);
    if (!err && kernel_wants_fdt(kernel))
        err = write_fdt(vm, board, config, &info.fdt_bytes, error);
    if (!err)
        err = kernel_start(kernel, &vm->memory, &vm->vcpus[0], &info, error);
    kernel_close(kernel);
    return err;
}

int boot(struct vm *vm, struct board *board, const struct vm_config *config,
         struct boot_error *error)
{
    struct kernel kernel;
    int err = load(&kernel, &vm->memory, config, error);

    return err ? err : finish(vm, board, &kernel, error);
}

static int load_early(struct memory *memory, void *arg)
{
    struct boot_early *early = arg;

    return load(&early->kernel, memory, early->config, &early->error);
}

void boot_early(struct boot_early *early, const struct vm_config *config, struct vm_shape *shape)
{
    *early = (struct boot_early){ .config = config, .kernel.image.fd = -1 };
    shape->meanwhile = load_early;
    shape->arg = early;
}

int boot_early_finish(struct boot_early *early, struct vm *vm, struct board *board,
                      struct boot_error *error)
{
    return finish(vm, board, &early->kernel, error);
}

void boot_early_drop(struct boot_early *early)
{
    kernel_close(&early->kernel);
}
