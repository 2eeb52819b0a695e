#include "vmm/boot/boot.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "guest/abi/policy.h"
#include "vmm/boot/bundled.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/fdt.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/pvh.h"

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
                                  .console_out_fd = -1,
                                  .console_room_fd = -1 };
}

static int load_kernel(struct vm *vm, const struct vm_config *config, struct elf_info *kernel,
                       struct boot_error *error)
{
    struct image image = image_in_memory("bundled guest", bundled_kernel,
                                         (uint64_t)(bundled_kernel_end - bundled_kernel));
    int err = 0;

    if (config->kernel_path)
        err = image_open(&image, config->kernel_path, error);
    if (err)
        return err;
    err = elf_load_image(&vm->memory, &image, kernel, error);
    image_close(&image);
    return err;
}

static unsigned host_cpus(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

int boot(struct vm *vm, struct board *board, const struct vm_config *config,
         struct boot_error *error)
{
    struct fdt_facts facts = { .bootargs = config->boot_args ? config->boot_args : "",
                               .host_cpus = host_cpus(),
                               .tsc_hz = vcpu_tsc_hz(&vm->vcpus[0]),
                               .dma_mode = config->dma_mode,
                               .policy = config->policy };
    void *fdt = memory_at(&vm->memory, LAYOUT_FDT_GPA, LAYOUT_FDT_BYTES);
    struct elf_info kernel;
    size_t room;
    int fdt_bytes, err;

    if (!fdt || vm->memory.bytes < LAYOUT_MEMORY_BYTES_MIN)
        return boot_fail(error, -ENOSPC,
                         "%llu bytes of memory are too few to boot anything; give "
                         "2M or more with --memory",
                         (unsigned long long)vm->memory.bytes);
    err = load_kernel(vm, config, &kernel, error);
    if (err)
        return err;
    /* libfdt clears what it is given, and each page costs: no more than it takes. */
    room = fdt_room(vm, board, &facts);
    fdt_bytes = fdt_build(fdt, room < LAYOUT_FDT_BYTES ? room : LAYOUT_FDT_BYTES, vm, board,
                          &facts);
    if (fdt_bytes < 0)
        return boot_fail(error, fdt_bytes,
                         "the device tree needs more than %llu bytes; shorten "
                         "--append or --exec",
                         LAYOUT_FDT_BYTES);
    err = pvh_write(&vm->memory, facts.bootargs, (uint32_t)fdt_bytes, error);
    if (err)
        return err;
    err = vcpu_enter_protected(
        &vm->vcpus[0], &(struct vcpu_entry){ .rip = kernel.entry, .rbx = LAYOUT_START_INFO_GPA });
    if (err)
        return boot_fail(error, err, "KVM refuses the boot CPU's registers: %s; see strata doctor",
                         strerror(-err));
    return 0;
}
