/*
 * ELF kernels for x86, of 64 and of 32 bits (System V ABI, chapter 5): what is in one,
 * the PVH entry if it has one (note XEN_ELFNOTE_PHYS32_ENTRY; Xen, docs/misc/pvh.pandoc),
 * and loading.
 */
#ifndef STRATA_BOOT_ELF_H
#define STRATA_BOOT_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/boot/image.h"
#include "vmm/machine/memory.h"

#define ELF_SEGMENTS_MAX 64

/* An ELF file's head, in the form of 64 bits for both classes. */
struct elf {
    uint64_t e_entry; /* as in the file: virtual or physical */
    bool has_pvh;
    uint64_t pvh_entry;
    bool is_linux; /* it has a note of Linux's own (since 4.19) */
    unsigned nphdrs;
    Elf64_Phdr phdrs[ELF_SEGMENTS_MAX];
};

/*
 * Reads and checks the head and the notes. 0, or -ENOEXEC (not such an ELF), -ENODATA
 * (truncated), -errno of reading, with a text that names file, field and remedy.
 */
int elf_open(const struct image *image, struct elf *elf, struct error *error);

struct elf_info {
    uint32_t entry; /* 32-bit physical entry point */
    uint64_t start; /* lowest and one past the highest loaded GPA */
    uint64_t end;
    unsigned segments; /* PT_LOAD segments with a size */
};

/*
 * The PVH entry and that of e_entry, which is virtual if a segment has it there: 0 and
 * *entry; -ENOEXEC: there is none, or it lies in no segment below 4 GiB.
 */
int elf_pvh_entry(const struct image *image, const struct elf *elf, uint32_t *entry,
                  struct error *error);
int elf_plain_entry(const struct image *image, const struct elf *elf, uint32_t *entry,
                    struct error *error);

/*
 * Loads the segments to their physical addresses; guest memory is touched only where
 * they have bytes in the file (the rest of a segment is zero because RAM is fresh).
 * Fills in *out, but for the entry. 0; -ENOEXEC (a broken or no segment), -ENODATA
 * (truncated), -ENOSPC (does not fit into RAM, or lies on the boot structures of
 * layout.h), -errno of reading; then RAM may hold a part of it.
 */
int elf_load_segments(struct memory *memory, const struct image *image, const struct elf *elf,
                      struct elf_info *out, struct error *error);

/* All that for a PVH kernel; and the same for one in memory. */
int elf_load_image(struct memory *memory, const struct image *image, struct elf_info *out,
                   struct error *error);
int elf_load(struct memory *memory, const void *image, size_t bytes, struct elf_info *out,
             struct error *error);

#endif
