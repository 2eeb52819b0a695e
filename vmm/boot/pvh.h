/*
 * What a PVH kernel finds at ebx: hvm_start_info version 1, the memory map, the
 * command line, the initrd and the device tree blob as modules (Xen,
 * include/public/arch-x86/hvm/start_info.h).
 */
#ifndef STRATA_BOOT_PVH_H
#define STRATA_BOOT_PVH_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/boot/initrd.h"
#include "vmm/machine/memory.h"

#define PVH_CMDLINE_MAX 2047 /* the bundled guest's limit and Linux's, which would cut the rest */

struct pvh_info {
    const char *cmdline;
    uint64_t cmdline_max; /* bytes that the kernel takes, without the zero; 0: it says nothing */
    struct initrd initrd; /* 0 bytes: none */
    uint32_t fdt_bytes;   /* of the device tree blob at LAYOUT_FDT_GPA; 0: none */
    /*
     * Linux takes module 0 for its initrd, whatever it is: for all but the bundled guest
     * that is the initrd or, empty, its place, and the device tree is module 1.
     */
    bool fdt_first;
    uint64_t rsdp_gpa; /* 0: no ACPI */
};

/*
 * Writes start info, memory map, module list and command line to the places of
 * layout.h. -E2BIG: the command line is too long; -ENOSPC: too little RAM for the area.
 */
int pvh_write(struct memory *memory, const struct pvh_info *info, struct error *error);

#endif
