#include "guest/kernel/arch/fdt.h"

#include <stdint.h>

#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "guest/kernel/arch/layout.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"

enum { FDT_BEGIN_NODE = 1, FDT_END_NODE = 2, FDT_PROP = 3, FDT_NOP = 4 };

/* The deepest node that matters is /cpus/cpu@N. */
#define DEPTH_MAX 3

static uint32_t be32(const void *at)
{
    return __builtin_bswap32(*(const uint32_t *)at);
}

static uint64_t be64(const void *at)
{
    return (uint64_t)be32(at) << 32 | be32((const char *)at + 4);
}

static bool starts(const char *s, const char *with)
{
    while (*with) {
        if (*s++ != *with++)
            return false;
    }
    return true;
}

static void memory_range(uint64_t start, uint64_t bytes)
{
    if (start == 0)
        boot_info.low_frames = bytes >> 12;
    else if (start == ABI_RAM_HIGH_START)
        boot_info.high_frames = bytes >> 12;
}

static enum abi_dma_mode dma_mode(const char *word)
{
    static const char *const words[] = {
        [ABI_DMA_OFF] = "off",
        [ABI_DMA_IDENTITY] = "identity",
        [ABI_DMA_STRICT] = "DMA",
        [ABI_DMA_LAZY] = "DMA-FQ",
    };

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (!strcmp(word, words[i]))
            return i;
    }
    return ABI_DMA_STRICT;
}

static void policy(const struct abi_policy *block, uint32_t bytes)
{
    if (bytes != sizeof(*block) || block->magic != ABI_POLICY_MAGIC ||
        block->version != ABI_POLICY_VERSION || block->ndevices > ABI_POLICY_DEVICES_MAX ||
        block->nregions > ABI_POLICY_REGIONS_MAX)
        return;
    memcpy(&boot_info.policy, block, sizeof(*block));
    boot_info.has_policy = true;
}

/* A memory-mapped device: `node` tells one from the next. */
static void device_property(const char *node, const char *name, const char *value, uint32_t bytes)
{
    static const char *last;
    struct boot_device *device;

    if (node != last) {
        last = node;
        if (boot_info.ndevices == BOOT_DEVICES_MAX)
            return;
        boot_info.ndevices++;
    }
    device = &boot_info.device[boot_info.ndevices - 1];
    if (!strcmp(name, "compatible")) {
        device->probe = !strcmp(value, ABI_PROBE_COMPATIBLE);
    } else if (!strcmp(name, "reg") && bytes == 16) {
        device->gpa = be64(value);
    } else if (!strcmp(name, "interrupts") && bytes == 8) {
        /* Linux, bindings/interrupt-controller/intel,ce4100-ioapic: 0 and 3 are edges. */
        device->gsi = be32(value);
        device->level = be32(value + 4) == 1 || be32(value + 4) == 2;
    } else if (!strcmp(name, "#iommu-cells")) {
        device->is_iommu = true;
    } else if (!strcmp(name, ABI_FDT_IOMMU_PROMPT)) {
        device->prompt = true;
    } else if (!strcmp(name, "iommus") && bytes == 8) {
        device->translated = true;
        device->endpoint = be32(value + 4);
    }
}

/* One property of the node `name` below the node `parent` ("" for the root). */
static void property(const char *parent, const char *node, const char *name, const char *value,
                     uint32_t bytes)
{
    if (starts(node, "chosen")) {
        if (!strcmp(name, "bootargs"))
            copy_name(boot_info.command_line, sizeof(boot_info.command_line), value);
        else if (!strcmp(name, ABI_FDT_HOST_CPUS) && bytes == 4)
            boot_info.host_cpus = be32(value);
        else if (!strcmp(name, ABI_FDT_TSC_HZ) && bytes == 8)
            boot_info.tsc_hz = be64(value);
        else if (!strcmp(name, ABI_FDT_DMA_MODE))
            boot_info.dma_mode = dma_mode(value);
        else if (!strcmp(name, ABI_FDT_DMA_POLICY))
            policy((const struct abi_policy *)value, bytes);
    } else if (starts(node, "memory@")) {
        for (; !strcmp(name, "reg") && bytes >= 16; bytes -= 16, value += 16)
            memory_range(be64(value), be64(value + 8));
    } else if (starts(parent, "cpus") && starts(node, "cpu@")) {
        if (!strcmp(name, "reg") && bytes == 4 && boot_info.ncpus < CPUS_MAX)
            boot_info.apic_id[boot_info.ncpus++] = be32(value);
    } else if (starts(node, "serial@")) {
        if (!strcmp(name, "reg") && bytes == 12)
            boot_info.serial_port = (uint16_t)be32(value + 4);
        else if (!strcmp(name, "interrupts") && bytes >= 4)
            boot_info.serial_gsi = be32(value);
    } else if (starts(node, "hypercall-port@")) {
        if (!strcmp(name, "reg") && bytes == 12)
            boot_info.hypercall_port_number = (uint16_t)be32(value + 4);
    } else if ((*node == 'v' && starts(node, "virtio@")) ||
               (*node == 'd' && starts(node, "dma-probe@"))) {
        device_property(node, name, value, bytes);
    }
}

bool fdt_read(const void *blob)
{
    const char *at = blob;
    const char *strings, *end;
    const char *name[DEPTH_MAX + 1] = { "", "", "", "" };
    unsigned depth = 0;

    if (be32(at) != 0xd00dfeed)
        return false;
    end = at + be32(at + 4);
    strings = at + be32(at + 12);
    at += be32(at + 8);
    while (at < end) {
        uint32_t token = be32(at);

        at += 4;
        if (token == FDT_BEGIN_NODE) {
            if (++depth <= DEPTH_MAX)
                name[depth] = at;
            at += (strlen(at) + 4) & ~3ull;
        } else if (token == FDT_END_NODE) {
            depth--;
        } else if (token == FDT_PROP) {
            uint32_t bytes = be32(at);

            if (depth >= 2 && depth <= DEPTH_MAX)
                property(name[depth - 1], name[depth], strings + be32(at + 4), at + 8, bytes);
            at += 8 + ((bytes + 3) & ~3u);
        } else if (token != FDT_NOP) {
            break;
        }
    }
    return true;
}
