/*
 * ELF kernels: 64-bit x86 executables with a PVH entry, the note XEN_ELFNOTE_PHYS32_ENTRY
 * (System V ABI, chapter 5; Xen, docs/misc/pvh.pandoc).
 */
#ifndef STRATA_BOOT_ELF_H
#define STRATA_BOOT_ELF_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/boot/error.h"
#include "vmm/boot/image.h"
#include "vmm/machine/memory.h"

#define ELF_SEGMENTS_MAX 64

struct elf_info {
    uint32_t entry; /* 32-bit physical entry point */
    uint64_t start; /* lowest and one past the highest loaded GPA */
    uint64_t end;
    unsigned segments; /* PT_LOAD segments with a size */
};

/*
 * Loads the segments to their physical addresses; guest memory is touched only where
 * they have bytes in the file (the rest of a segment is zero because RAM is fresh).
 * 0 and *out, or -ENOEXEC (not such an ELF), -ENODATA (truncated), -ENOSPC (does not
 * fit into RAM, or lies on the boot structures of layout.h), -errno of reading; then
 * the text names the file, the field and the remedy, and RAM may hold a part of it.
 */
int elf_load_image(struct memory *memory, const struct image *image, struct elf_info *out,
                   struct boot_error *error);

/* The same for an image in memory. */
int elf_load(struct memory *memory, const void *image, size_t bytes, struct elf_info *out,
             struct boot_error *error);

#endif
