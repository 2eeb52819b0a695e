/*
 * What a machine boots, and how it is told to: boot-source in the VM's configuration.
 */
#ifndef STRATA_BOOT_SOURCE_H
#define STRATA_BOOT_SOURCE_H

#include <stdint.h>

/* The fields that errors of booting are about, as vmm/launch/config_fields.c names them. */
#define BOOT_FIELD_MODULES   "boot-source.modules"
#define BOOT_FIELD_INITRD    "boot-source.initrd_path"
#define BOOT_FIELD_FLAT      "flat-kernel"
#define BOOT_FIELD_BOOT_ARGS "boot-source.boot_args"
#define BOOT_FIELD_MEMORY    "machine-config.mem_size_mib"
#define BOOT_FIELD_CPUS      "machine-config.vcpu_count"

struct abi_policy;

/* A kernel that is plain code, and how it wants to be started. */
struct boot_flat {
    unsigned bits; /* of the mode it starts in: 16, 32 or 64; 0: the kernel is not flat */
    uint64_t gpa;  /* of its first byte */
    uint64_t entry;
};

struct boot_source {
    const char *kernel_path;    /* NULL: the bundled guest, and none of the next three */
    const char *initrd_path;    /* NULL: none */
    const char *const *modules; /* of Multiboot, "FILE ARGUMENTS" each */
    unsigned nmodules;
    struct boot_flat flat;
    const char *boot_args;           /* NULL: none */
    const char *dma_mode;            /* ABI_FDT_DMA_MODE, for the device tree; NULL: left out */
    const struct abi_policy *policy; /* for the bundled guest; NULL: none */
};

#endif
