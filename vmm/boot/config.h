/*
 * The one description of a VM, wherever it came from: options now, a file or an API
 * later. Field names follow what orchestrators of micro-VMs write (boot-source,
 * machine-config).
 */
#ifndef STRATA_BOOT_CONFIG_H
#define STRATA_BOOT_CONFIG_H

#include <stdint.h>

#include "vmm/machine/memory.h"

#define VM_CONFIG_MEMORY_BYTES (256ull << 20)
#define VM_CONFIG_CPUS         2

struct abi_policy;
struct board_device;
struct cpuid_mask;

struct vm_config {
    const char *kernel_path;        /* NULL: the bundled guest */
    const char *boot_args;          /* NULL: none */
    uint64_t memory_bytes;          /* machine-config mem_size_mib */
    unsigned vcpu_count;            /* machine-config vcpu_count */
    enum memory_backing huge_pages; /* machine-config huge_pages */
    const struct cpuid_mask *cpuid; /* what CPUID does not show the guest; NULL: nothing */

    const struct board_device *devices; /* drives, entropy device, ..., in this order */
    unsigned ndevices;
    const char *dma_mode;            /* ABI_FDT_DMA_MODE; NULL or "off": there is no IOMMU */
    const struct abi_policy *policy; /* for the bundled guest; NULL: none */
};

#endif
