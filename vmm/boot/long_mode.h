/*
 * What a kernel needs in memory to be started in 64-bit mode: page tables that map
 * addresses to themselves, and a descriptor table for the segments it starts with
 * (Linux, Documentation/arch/x86/boot.rst, 64-bit boot protocol).
 */
#ifndef STRATA_BOOT_LONG_MODE_H
#define STRATA_BOOT_LONG_MODE_H

#include <stdint.h>

#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"

/*
 * Writes both to the places of layout.h, which are RAM and still zero. [0, bytes) is
 * mapped, rounded up to whole GiB and at most 4 of them, by 2 MiB pages: every host has
 * those. Sets cr3 and gdt of the entry.
 */
void long_mode_write(struct memory *memory, uint64_t bytes, struct vcpu_entry *entry);

#endif
