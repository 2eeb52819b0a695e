/*
 * Linux as a bzImage, started by the 64-bit boot protocol: straight at the decompressor's
 * 64-bit entry, past the real-mode code (Linux, Documentation/arch/x86/boot.rst and
 * zero-page.rst). Needs protocol 2.12, the first whose xloadflags tell that there is such
 * an entry (Linux 3.8).
 */
#ifndef STRATA_BOOT_BZIMAGE_H
#define STRATA_BOOT_BZIMAGE_H

#include <asm/bootparam.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/boot/image.h"
#include "vmm/boot/initrd.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vcpu.h"

struct bzimage {
    struct setup_header header; /* zero beyond what the file has of it */
    uint64_t payload_at;        /* in the file: the protected-mode kernel */
    uint64_t payload_bytes;
};

/* Whether the file claims to be one, by the header's magic number. */
bool bzimage_recognise(const struct image *image);

/*
 * Reads and checks the setup header. 0; -ENOEXEC: a kernel that cannot be started so,
 * or a header that contradicts itself; -ENODATA: truncated; -errno of reading. The text
 * names file, field and remedy.
 */
int bzimage_open(const struct image *image, struct bzimage *bzimage, struct error *error);

/*
 * Reads the kernel to where it wants to be; [*start, *end) is what it needs while it
 * decompresses itself. 0; -ENOSPC: that is not all RAM; -errno of reading.
 */
int bzimage_load(struct memory *memory, const struct image *image, const struct bzimage *bzimage,
                 uint64_t *start, uint64_t *end, struct error *error);

/* One past the highest address that may be the initrd's. */
uint64_t bzimage_initrd_end(const struct bzimage *bzimage);

struct bzimage_info {
    uint64_t start; /* as bzimage_load said */
    const char *cmdline;
    struct initrd initrd; /* 0 bytes: none */
    uint64_t rsdp_gpa;    /* 0: no ACPI */
};

/*
 * Writes boot_params, command line, page tables and descriptors to the places of
 * layout.h, which must be RAM and zero, and fills in the entry for vcpu_enter_long.
 * 0; -E2BIG: the command line is longer than the kernel or this takes.
 */
int bzimage_write(struct memory *memory, const struct image *image, const struct bzimage *bzimage,
                  const struct bzimage_info *info, struct vcpu_entry *entry, struct error *error);

#endif
