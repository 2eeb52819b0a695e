/*
 * What a PVH kernel finds at ebx: hvm_start_info version 1, the memory map, the
 * command line and the device tree blob as its only module (Xen,
 * include/public/arch-x86/hvm/start_info.h).
 */
#ifndef STRATA_BOOT_PVH_H
#define STRATA_BOOT_PVH_H

#include <stdint.h>

#include "vmm/boot/error.h"
#include "vmm/machine/memory.h"

/*
 * Writes start info, memory map, module list and command line to the places of
 * layout.h. fdt_bytes: size of the blob at LAYOUT_FDT_GPA, 0 for none. -E2BIG: the
 * command line is too long; -ENOSPC: too little RAM for the area.
 */
int pvh_write(struct memory *memory, const char *cmdline, uint32_t fdt_bytes,
              struct boot_error *error);

#endif
