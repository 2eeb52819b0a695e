/*
 * What a Multiboot kernel is told: multiboot_info and what it points to (Multiboot 0.6.96,
 * 3.3).
 */
#ifndef STRATA_BOOT_MULTIBOOT_INFO_H
#define STRATA_BOOT_MULTIBOOT_INFO_H

#include "vmm/boot/multiboot.h"

struct multiboot_info {
    const char *kernel_path; /* begins the command line, as the kernel's name */
    const char *cmdline;
    const char *const *modules; /* "FILE" or "FILE ARGUMENTS", which is also their string */
    unsigned nmodules;
};

/*
 * Reads the modules to the pages behind the kernel and writes multiboot_info, memory map,
 * module list and strings to the places of layout.h, which must be RAM and zero. Fills in
 * the entry for vcpu_enter_protected. 0; -E2BIG: too many modules or too long strings;
 * else as initrd_load.
 */
int multiboot_info_write(struct memory *memory, const struct multiboot_kernel *kernel,
                         const struct multiboot_info *info, struct vcpu_entry *entry,
                         struct error *error);

#endif
