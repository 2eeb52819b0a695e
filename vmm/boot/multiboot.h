/*
 * Kernels of the Multiboot specification, version 0.6.96 ("Multiboot 1"): as ELF of 32 or
 * 64 bits, or any file whose header has the address fields. Both start in 32-bit
 * protected mode.
 */
#ifndef STRATA_BOOT_MULTIBOOT_H
#define STRATA_BOOT_MULTIBOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/image.h"
#include "vmm/boot/initrd.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"

#define MULTIBOOT_SEARCH_BYTES 8192u /* the header lies within so much of the file */
#define MULTIBOOT_MODULES_MAX  64
#define MULTIBOOT_ENTRY_EAX    0x2badb002u

/* A header found; from header_addr on only with the address fields (flags bit 16). */
struct multiboot {
    uint32_t at; /* in the file */
    uint32_t flags;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

enum multiboot_found { MULTIBOOT_NONE, MULTIBOOT_1, MULTIBOOT_2 };

/*
 * Looks for a header with a right checksum; one of version 2 counts only where there is
 * none of version 1. What was found, or -errno of reading with a text.
 */
int multiboot_find(const struct image *image, struct multiboot *header, struct error *error);

/* Where a kernel lies. */
struct multiboot_kernel {
    uint32_t entry;
    uint64_t start, end;
};

/*
 * Loads by the address fields where the header has them, else as ELF (NULL: it is none).
 * 0; -ENOEXEC: a header that contradicts itself or asks for what there is not; -ENODATA,
 * -ENOSPC and others as elf_load_segments.
 */
int multiboot_load(struct memory *memory, const struct image *image, const struct multiboot *header,
                   const struct elf *elf, struct multiboot_kernel *kernel, struct error *error);

#endif
