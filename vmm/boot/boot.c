#include "vmm/boot/boot.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <sys/stat.h>

#include "guest/abi/policy.h"
#include "vmm/base/host_cpus.h"
#include "vmm/boot/acpi.h"
#include "vmm/boot/fdt.h"
#include "vmm/boot/kernel.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/mptable.h"
#include "vmm/boot/reset_vector.h"

/* A smaller kernel is read before another thread has started. */
#define PRELOAD_BYTES_MIN (1 << 20)

/* 0 bytes for a kernel that is not given one. */
static int write_fdt(struct vm *vm, const struct board *board, const struct boot_source *source,
                     uint32_t *bytes, struct error *error)
{
    struct fdt_info info = { .bootargs = source->boot_args ? source->boot_args : "",
                             .host_cpus = host_cpus(),
                             .tsc_hz = vcpu_tsc_hz(&vm->vcpus[0]),
                             .dma_mode = source->dma_mode,
                             .policy = source->policy };
    void *fdt = memory_at(&vm->memory, LAYOUT_FDT_GPA, LAYOUT_FDT_BYTES);
    /* libfdt clears what it is given, and each page costs: no more than it takes. */
    size_t room = fdt_room(vm, board, &info);
    int size = fdt_build(fdt, room < LAYOUT_FDT_BYTES ? room : LAYOUT_FDT_BYTES, vm, board, &info);

    if (size < 0)
        return error_field(error, size, BOOT_FIELD_BOOT_ARGS,
                           "the device tree needs more than %llu bytes; shorten "
                           "the boot arguments",
                           LAYOUT_FDT_BYTES);
    *bytes = (uint32_t)size;
    return 0;
}

static int load(struct kernel *kernel, struct memory *memory, const struct boot_source *source,
                struct error *error)
{
    int err;

    if (memory->bytes < LAYOUT_MEMORY_BYTES_MIN)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "%llu bytes of memory are too few to boot anything; give "
                           "2M or more",
                           (unsigned long long)memory->bytes);
    err = kernel_open(kernel, source, error);
    if (err)
        return err;
    err = kernel_load(kernel, memory, error);
    if (err)
        kernel_close(kernel);
    return err;
}

/* With the kernel loaded; closes it. */
static int finish(struct vm *vm, struct board *board, struct kernel *kernel, struct error *error)
{
    const struct boot_source *source = kernel->source;
    struct kernel_info info = { .fdt_bytes = 0 };
    int err = 0;

    /* The bundled guest looks at the device tree alone, and has no time to lose. */
    if (source->kernel_path)
        err = acpi_write(vm, board, &info.rsdp_gpa, error);
    if (!err && source->kernel_path)
        err = mptable_write(vm, board, error);
    if (!err && source->kernel_path)
        err = reset_vector_write(&vm->memory, error);
    if (!err && kernel_wants_fdt(kernel))
        err = write_fdt(vm, board, source, &info.fdt_bytes, error);
    if (!err)
        err = kernel_start(kernel, &vm->memory, &vm->vcpus[0], &info, error);
    kernel_close(kernel);
    return err;
}

int boot(struct vm *vm, struct board *board, const struct boot_source *source, struct error *error)
{
    struct kernel kernel;
    int err = load(&kernel, &vm->memory, source, error);

    return err ? err : finish(vm, board, &kernel, error);
}

bool boot_wants_preload(const struct boot_source *source)
{
    struct stat status;

    return source->kernel_path && stat(source->kernel_path, &status) == 0 &&
           S_ISREG(status.st_mode) && status.st_size >= PRELOAD_BYTES_MIN;
}

static int boot_preload_load(struct memory *memory, void *arg)
{
    struct boot_preload *preload = arg;

    return load(&preload->kernel, memory, preload->source, &preload->error);
}

void boot_preload(struct boot_preload *preload, const struct boot_source *source,
                  struct vm_params *params)
{
    *preload = (struct boot_preload){ .source = source, .kernel.image.fd = -1 };
    params->prepare = boot_preload_load;
    params->arg = preload;
}

int boot_preload_finish(struct boot_preload *preload, struct vm *vm, struct board *board,
                        struct error *error)
{
    return finish(vm, board, &preload->kernel, error);
}

void boot_preload_drop(struct boot_preload *preload)
{
    kernel_close(&preload->kernel);
}
