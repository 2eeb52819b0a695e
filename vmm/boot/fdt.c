#include "vmm/boot/fdt.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/machine.h"
#include "guest/abi/policy.h"
#include "vmm/machine/vm.h"

#define PHANDLE_IOAPIC 1
#define PHANDLE_IOMMU  2
#define ISA_IO_SPACE   1 /* first address cell of an I/O port (IEEE 1275 ISA binding) */
#define CELLS_MAX      8

/* Nodes, properties and their names; a node for each CPU and each memory-mapped device. */
#define ROOM_BYTES        3072
#define ROOM_CPU_BYTES    128
#define ROOM_DEVICE_BYTES 256

/*
 * libfdt's sequential writing: after a first failure every further call fails too, so
 * it is enough to look at what fdt_finish returns.
 */
static void fdt_cells(void *fdt, const char *name, const uint32_t *values, unsigned count)
{
    fdt32_t big_endian[CELLS_MAX];

    for (unsigned i = 0; i < count; i++)
        big_endian[i] = cpu_to_fdt32(values[i]);
    fdt_property(fdt, name, big_endian, (int)(count * sizeof(fdt32_t)));
}

static void fdt_cell(void *fdt, const char *name, uint32_t value)
{
    fdt_cells(fdt, name, &value, 1);
}

static void fdt_begin(void *fdt, const char *name, uint64_t unit)
{
    char full[64];

    snprintf(full, sizeof(full), "%s@%" PRIx64, name, unit);
    fdt_begin_node(fdt, full);
}

static void fdt_reg(void *fdt, uint64_t base, uint64_t bytes)
{
    fdt_cells(fdt, "reg",
              (uint32_t[]){ (uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(bytes >> 32),
                            (uint32_t)bytes },
              4);
}

static void fdt_chosen(void *fdt, const struct fdt_info *info)
{
    fdt_begin_node(fdt, "chosen");
    fdt_property_string(fdt, "bootargs", info->bootargs);
    fdt_property_string(fdt, "stdout-path", "/isa/serial@3f8");
    fdt_cell(fdt, ABI_FDT_HOST_CPUS, info->host_cpus);
    if (info->tsc_hz)
        fdt_property_u64(fdt, ABI_FDT_TSC_HZ, info->tsc_hz);
    if (info->dma_mode)
        fdt_property_string(fdt, ABI_FDT_DMA_MODE, info->dma_mode);
    if (info->policy)
        fdt_property(fdt, ABI_FDT_DMA_POLICY, info->policy, sizeof(*info->policy));
    fdt_end_node(fdt);
}

static void fdt_memory(void *fdt, const struct vm *vm)
{
    fdt64_t ranges[2 * MEMORY_SLOTS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < vm->memory.nslots; i++) {
        ranges[count++] = cpu_to_fdt64(vm->memory.slots[i].gpa);
        ranges[count++] = cpu_to_fdt64(vm->memory.slots[i].bytes);
    }
    fdt_begin(fdt, "memory", 0);
    fdt_property_string(fdt, "device_type", "memory");
    fdt_property(fdt, "reg", ranges, (int)(count * sizeof(ranges[0])));
    fdt_end_node(fdt);
}

static void fdt_cpus(void *fdt, const struct vm *vm)
{
    fdt_begin_node(fdt, "cpus");
    fdt_cell(fdt, "#address-cells", 1);
    fdt_cell(fdt, "#size-cells", 0);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        fdt_begin(fdt, "cpu", i);
        fdt_property_string(fdt, "device_type", "cpu");
        fdt_property_string(fdt, "compatible", "x86");
        fdt_cell(fdt, "reg", i);
        fdt_end_node(fdt);
    }
    fdt_end_node(fdt);
}

/* Linux, Documentation/devicetree/bindings/interrupt-controller/intel,ce4100-*.yaml. */
static void fdt_interrupt_controllers(void *fdt)
{
    fdt_begin(fdt, "interrupt-controller", ABI_LAPIC_GPA);
    fdt_property_string(fdt, "compatible", "intel,ce4100-lapic");
    fdt_reg(fdt, ABI_LAPIC_GPA, 0x1000);
    fdt_property(fdt, "interrupt-controller", NULL, 0);
    fdt_cell(fdt, "#interrupt-cells", 2);
    fdt_end_node(fdt);

    fdt_begin(fdt, "interrupt-controller", ABI_IOAPIC_GPA);
    fdt_property_string(fdt, "compatible", "intel,ce4100-ioapic");
    fdt_reg(fdt, ABI_IOAPIC_GPA, 0x1000);
    fdt_property(fdt, "interrupt-controller", NULL, 0);
    fdt_cell(fdt, "#interrupt-cells", 2);
    fdt_cell(fdt, "phandle", PHANDLE_IOAPIC);
    fdt_end_node(fdt);
}

static void fdt_interrupts(void *fdt, const struct device_node *node)
{
    if (node->gsi >= 0)
        fdt_cells(fdt, "interrupts", (uint32_t[]){ (uint32_t)node->gsi, node->sense }, 2);
}

static void fdt_isa(void *fdt, const struct device_node *nodes, unsigned count)
{
    fdt_begin_node(fdt, "isa");
    fdt_property_string(fdt, "compatible", "isa");
    fdt_property_string(fdt, "device_type", "isa");
    fdt_cell(fdt, "#address-cells", 2);
    fdt_cell(fdt, "#size-cells", 1);
    fdt_property(fdt, "ranges", NULL, 0);
    for (unsigned i = 0; i < count; i++) {
        const struct device_node *node = &nodes[i];

        if (node->gpa || !node->compatible)
            continue;
        fdt_begin(fdt, node->name, node->port);
        fdt_property_string(fdt, "compatible", node->compatible);
        fdt_cells(fdt, "reg",
                  (uint32_t[]){ ISA_IO_SPACE, (uint32_t)node->port, (uint32_t)node->bytes }, 3);
        fdt_interrupts(fdt, node);
        fdt_end_node(fdt);
    }
    fdt_end_node(fdt);
}

/*
 * Linux, Documentation/devicetree/bindings/virtio/{mmio,iommu}.yaml and iommu/iommu.txt.
 */
static void fdt_memory_mapped(void *fdt, const struct device_node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct device_node *node = &nodes[i];

        if (!node->gpa)
            continue;
        fdt_begin(fdt, node->name, node->gpa);
        fdt_property_string(fdt, "compatible", node->compatible);
        fdt_reg(fdt, node->gpa, node->bytes);
        fdt_interrupts(fdt, node);
        fdt_property(fdt, "dma-coherent", NULL, 0);
        if (node->is_iommu) {
            fdt_cell(fdt, "#iommu-cells", 1);
            fdt_cell(fdt, "phandle", PHANDLE_IOMMU);
            fdt_property(fdt, ABI_FDT_IOMMU_PROMPT, NULL, 0);
        }
        if (node->translated)
            fdt_cells(fdt, "iommus", (uint32_t[]){ PHANDLE_IOMMU, node->endpoint }, 2);
        fdt_end_node(fdt);
    }
}

size_t fdt_room(const struct vm *vm, const struct board *board, const struct fdt_info *info)
{
    return ROOM_BYTES + ROOM_CPU_BYTES * vm->ncpus +
           (board ? ROOM_DEVICE_BYTES * board->nslots : 0) + strlen(info->bootargs) +
           (info->policy ? sizeof(*info->policy) : 0);
}

int fdt_build(void *to, size_t bytes, const struct vm *vm, const struct board *board,
              const struct fdt_info *info)
{
    struct device_node nodes[BOARD_NODES_MAX];
    unsigned count = board ? board_describe(board, nodes, BOARD_NODES_MAX) : 0;

    /* Looking up every property name among those before takes as long as all the rest. */
    if (fdt_create_with_flags(to, (int)bytes, FDT_CREATE_FLAG_NO_NAME_DEDUP) ||
        fdt_finish_reservemap(to))
        return -ENOSPC;
    fdt_begin_node(to, "");
    fdt_property_string(to, "compatible", "strata,pc");
    fdt_property_string(to, "model", "strata");
    fdt_cell(to, "#address-cells", 2);
    fdt_cell(to, "#size-cells", 2);
    fdt_cell(to, "interrupt-parent", PHANDLE_IOAPIC);
    fdt_chosen(to, info);
    fdt_memory(to, vm);
    fdt_cpus(to, vm);
    fdt_interrupt_controllers(to);
    fdt_isa(to, nodes, count);
    fdt_memory_mapped(to, nodes, count);
    fdt_end_node(to);
    return fdt_finish(to) ? -ENOSPC : (int)fdt_totalsize(to);
}
