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
static void cells(void *fdt, const char *name, const uint32_t *values, unsigned count)
{
    fdt32_t big_endian[CELLS_MAX];

    for (unsigned i = 0; i < count; i++)
        big_endian[i] = cpu_to_fdt32(values[i]);
    fdt_property(fdt, name, big_endian, (int)(count * sizeof(fdt32_t)));
}

static void cell(void *fdt, const char *name, uint32_t value)
{
    cells(fdt, name, &value, 1);
}

static void begin(void *fdt, const char *name, uint64_t unit)
{
    char full[64];

    snprintf(full, sizeof(full), "%s@%" PRIx64, name, unit);
    fdt_begin_node(fdt, full);
}

static void reg(void *fdt, uint64_t base, uint64_t bytes)
{
    cells(fdt, "reg",
          (uint32_t[]){ (uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(bytes >> 32),
                        (uint32_t)bytes },
          4);
}

static void chosen(void *fdt, const struct fdt_info *info)
{
    fdt_begin_node(fdt, "chosen");
    fdt_property_string(fdt, "bootargs", info->bootargs);
    fdt_property_string(fdt, "stdout-path", "/isa/serial@3f8");
    cell(fdt, ABI_FDT_HOST_CPUS, info->host_cpus);
    if (info->tsc_hz)
        fdt_property_u64(fdt, ABI_FDT_TSC_HZ, info->tsc_hz);
    if (info->dma_mode)
        fdt_property_string(fdt, ABI_FDT_DMA_MODE, info->dma_mode);
    if (info->policy)
        fdt_property(fdt, ABI_FDT_DMA_POLICY, info->policy, sizeof(*info->policy));
    fdt_end_node(fdt);
}

static void memory(void *fdt, const struct vm *vm)
{
    fdt64_t ranges[2 * MEMORY_SLOTS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < vm->memory.nslots; i++) {
        ranges[count++] = cpu_to_fdt64(vm->memory.slots[i].gpa);
        ranges[count++] = cpu_to_fdt64(vm->memory.slots[i].bytes);
    }
    begin(fdt, "memory", 0);
    fdt_property_string(fdt, "device_type", "memory");
    fdt_property(fdt, "reg", ranges, (int)(count * sizeof(ranges[0])));
    fdt_end_node(fdt);
}

static void cpus(void *fdt, const struct vm *vm)
{
    fdt_begin_node(fdt, "cpus");
    cell(fdt, "#address-cells", 1);
    cell(fdt, "#size-cells", 0);
    for (unsigned i = 0; i < vm->ncpus; i++) {
        begin(fdt, "cpu", i);
        fdt_property_string(fdt, "device_type", "cpu");
        fdt_property_string(fdt, "compatible", "x86");
        cell(fdt, "reg", i);
        fdt_end_node(fdt);
    }
    fdt_end_node(fdt);
}

/* Linux, Documentation/devicetree/bindings/interrupt-controller/intel,ce4100-*.yaml. */
static void interrupt_controllers(void *fdt)
{
    begin(fdt, "interrupt-controller", ABI_LAPIC_GPA);
    fdt_property_string(fdt, "compatible", "intel,ce4100-lapic");
    reg(fdt, ABI_LAPIC_GPA, 0x1000);
    fdt_property(fdt, "interrupt-controller", NULL, 0);
    cell(fdt, "#interrupt-cells", 2);
    fdt_end_node(fdt);

    begin(fdt, "interrupt-controller", ABI_IOAPIC_GPA);
    fdt_property_string(fdt, "compatible", "intel,ce4100-ioapic");
    reg(fdt, ABI_IOAPIC_GPA, 0x1000);
    fdt_property(fdt, "interrupt-controller", NULL, 0);
    cell(fdt, "#interrupt-cells", 2);
    cell(fdt, "phandle", PHANDLE_IOAPIC);
    fdt_end_node(fdt);
}

static void interrupts(void *fdt, const struct board_node *node)
{
    if (node->gsi >= 0)
        cells(fdt, "interrupts", (uint32_t[]){ (uint32_t)node->gsi, node->sense }, 2);
}

static void isa(void *fdt, const struct board_node *nodes, unsigned count)
{
    fdt_begin_node(fdt, "isa");
    fdt_property_string(fdt, "compatible", "isa");
    fdt_property_string(fdt, "device_type", "isa");
    cell(fdt, "#address-cells", 2);
    cell(fdt, "#size-cells", 1);
    fdt_property(fdt, "ranges", NULL, 0);
    for (unsigned i = 0; i < count; i++) {
        const struct board_node *node = &nodes[i];

        if (node->gpa || !node->compatible)
            continue;
        begin(fdt, node->name, node->port);
        fdt_property_string(fdt, "compatible", node->compatible);
        cells(fdt, "reg", (uint32_t[]){ ISA_IO_SPACE, (uint32_t)node->port, (uint32_t)node->bytes },
              3);
        interrupts(fdt, node);
        fdt_end_node(fdt);
    }
    fdt_end_node(fdt);
}

/*
 * Linux, Documentation/devicetree/bindings/virtio/{mmio,iommu}.yaml and iommu/iommu.txt.
 */
static void memory_mapped(void *fdt, const struct board_node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct board_node *node = &nodes[i];

        if (!node->gpa)
            continue;
        begin(fdt, node->name, node->gpa);
        fdt_property_string(fdt, "compatible", node->compatible);
        reg(fdt, node->gpa, node->bytes);
        interrupts(fdt, node);
        fdt_property(fdt, "dma-coherent", NULL, 0);
        if (node->is_iommu) {
            cell(fdt, "#iommu-cells", 1);
            cell(fdt, "phandle", PHANDLE_IOMMU);
            fdt_property(fdt, ABI_FDT_IOMMU_PROMPT, NULL, 0);
        }
        if (node->translated)
            cells(fdt, "iommus", (uint32_t[]){ PHANDLE_IOMMU, node->endpoint }, 2);
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
    struct board_node nodes[BOARD_NODES_MAX];
    unsigned count = board ? board_describe(board, nodes, BOARD_NODES_MAX) : 0;

    /* Looking up every property name among those before takes as long as all the rest. */
    if (fdt_create_with_flags(to, (int)bytes, FDT_CREATE_FLAG_NO_NAME_DEDUP) ||
        fdt_finish_reservemap(to))
        return -ENOSPC;
    fdt_begin_node(to, "");
    fdt_property_string(to, "compatible", "strata,pc");
    fdt_property_string(to, "model", "strata");
    cell(to, "#address-cells", 2);
    cell(to, "#size-cells", 2);
    cell(to, "interrupt-parent", PHANDLE_IOAPIC);
    chosen(to, info);
    memory(to, vm);
    cpus(to, vm);
    interrupt_controllers(to);
    isa(to, nodes, count);
    memory_mapped(to, nodes, count);
    fdt_end_node(to);
    return fdt_finish(to) ? -ENOSPC : (int)fdt_totalsize(to);
}
