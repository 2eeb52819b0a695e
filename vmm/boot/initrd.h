/*
 * Files that go into guest memory as they are, beside the kernel: the initial RAM disk,
 * and the modules of Multiboot.
 */
#ifndef STRATA_BOOT_INITRD_H
#define STRATA_BOOT_INITRD_H

#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/machine/memory.h"

/* Where a file is, in guest memory. */
struct initrd {
    uint64_t gpa; /* of a page */
    uint64_t bytes;
};

/* Where one may be put: pages from `start` on, all before `end`. */
struct initrd_room {
    uint64_t start, end;
    const char *limit; /* what `end` is, for people */
};

/*
 * Reads the file to the end of the room, but not beyond low RAM. 0 and *out; or -ENOSPC
 * (no room for it), -ENODATA (it got shorter meanwhile), -errno of opening and reading,
 * with a line that names file and remedy.
 */
int initrd_load(struct memory *memory, const char *path, const struct initrd_room *room,
                struct initrd *out, struct error *error);

/* The same for a module, and to the start of the room. */
int initrd_load_module(struct memory *memory, const char *path, const struct initrd_room *room,
                       struct initrd *out, struct error *error);

#endif
