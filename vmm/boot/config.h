/*
 * The one description of a VM, wherever it came from: options now, a file or an API
 * later. Field names follow what orchestrators of micro-VMs write (boot-source,
 * machine-config).
 */
#ifndef STRATA_BOOT_CONFIG_H
#define STRATA_BOOT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/memory.h"

#define VM_CONFIG_MEMORY_BYTES (256ull << 20)
#define VM_CONFIG_CPUS         2

struct abi_policy;
struct board_device;
struct cpuid_mask;

/* A kernel that is plain code, and how it wants to be started. */
struct vm_flat {
    unsigned bits; /* of the mode it starts in: 16, 32 or 64; 0: the kernel is not flat */
    uint64_t gpa;  /* of its first byte */
    uint64_t entry;
};

struct vm_config {
    const char *kernel_path;    /* NULL: the bundled guest, and none of the next three */
    const char *initrd_path;    /* NULL: none */
    const char *const *modules; /* of Multiboot, "FILE ARGUMENTS" each */
    unsigned nmodules;
    struct vm_flat flat;
    const char *boot_args;          /* NULL: none */
    unsigned debug_exit_port;       /* of a device like QEMU's isa-debug-exit; 0: none */
    uint64_t memory_bytes;          /* machine-config mem_size_mib */
    unsigned vcpu_count;            /* machine-config vcpu_count */
    enum memory_backing huge_pages; /* machine-config huge_pages */
    const struct cpuid_mask *cpuid; /* what CPUID does not show the guest; NULL: nothing */

    const struct board_device *devices; /* drives, entropy device, ..., in this order */
    unsigned ndevices;
    bool io_thread;                  /* devices are notified on a thread, not by exits */
    const char *dma_mode;            /* ABI_FDT_DMA_MODE; NULL or "off": there is no IOMMU */
    const struct abi_policy *policy; /* for the bundled guest; NULL: none */
};

#endif
