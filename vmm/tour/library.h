/*
 * A shared library as a process of the bundled guest has it mapped: read from its ELF
 * headers and dynamic section (System V gABI ch. 4, 5) in guest memory, and so believed
 * in nothing; what does not hold together is -EINVAL.
 */
#ifndef STRATA_TOUR_LIBRARY_H
#define STRATA_TOUR_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/guest.h"

#define LIBRARY_PAGES_MAX       64
#define LIBRARY_RELOCATIONS_MAX 64

enum library_page {
    LIBRARY_CONSTANT, /* headers, symbols, read-only data */
    LIBRARY_TEXT,
    LIBRARY_TABLE, /* written by the dynamic loader only: offsets (GOT), pointers */
    LIBRARY_DATA,
    LIBRARY_KINDS,
};

struct library_relocation {
    uint64_t offset;   /* of its slot, from the base */
    uint64_t value;    /* what it must hold, less the base; 0 if `imported` */
    uint32_t imported; /* a symbol that others define */
};

struct library {
    uint64_t npages;
    enum library_page kind[LIBRARY_PAGES_MAX];
    size_t nrelocations;
    struct library_relocation relocation[LIBRARY_RELOCATIONS_MAX];
};

/*
 * The library at `base` in the address space with this root. 0; -EFAULT a part of it is
 * not mapped; -EINVAL it is no such library, or larger than the above.
 */
int library_read(const struct guest_view *view, uint64_t root, uint64_t base,
                 struct library *library);

#endif
