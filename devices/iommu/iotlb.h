/*
 * The translations an endpoint used last: direct-mapped by the page of the address. An
 * entry is a whole leaf or less, always one piece of host memory. The endpoint's lock
 * (struct dma) guards it.
 */
#ifndef STRATA_IOMMU_IOTLB_H
#define STRATA_IOMMU_IOTLB_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "devices/iommu/iopt.h"

#define IOTLB_ENTRIES 256u /* a power of two */

struct iotlb_entry {
    uint64_t first;
    uint32_t bytes; /* 0: empty */
    uint32_t prot;
    char *host;   /* of first */
    uint64_t gpa; /* of first */
};

struct iotlb {
    struct iotlb_entry entry[IOTLB_ENTRIES];
};

static inline struct iotlb_entry *iotlb_slot(struct iotlb *tlb, uint64_t iova)
{
    return &tlb->entry[iova >> IOPT_PAGE_SHIFT & (IOTLB_ENTRIES - 1)];
}

/*
 * The entry that holds iova if it allows `need`, NULL: a miss, or not allowed. One
 * comparison is tag and length in one: an address below `first` wraps around to more
 * than any length.
 */
static inline const struct iotlb_entry *iotlb_find(struct iotlb *tlb, uint64_t iova, uint32_t need)
{
    const struct iotlb_entry *entry = iotlb_slot(tlb, iova);

    return iova - entry->first < entry->bytes && !(need & ~entry->prot) ? entry : NULL;
}

/*
 * No entry may overlap [first, last] any more. An entry larger than a page may sit in any
 * slot of its pages; but none is larger than the leaf it came from, and a range that is
 * unmapped holds whole leaves: fewer pages than slots means that its slots are all.
 */
static inline void iotlb_invalidate(struct iotlb *tlb, uint64_t first, uint64_t last)
{
    if ((last >> IOPT_PAGE_SHIFT) - (first >> IOPT_PAGE_SHIFT) >= IOTLB_ENTRIES - 1) {
        memset(tlb, 0, sizeof(*tlb));
        return;
    }
    for (uint64_t page = first >> IOPT_PAGE_SHIFT; page <= last >> IOPT_PAGE_SHIFT; page++) {
        struct iotlb_entry *entry = iotlb_slot(tlb, page << IOPT_PAGE_SHIFT);

        if (entry->bytes && entry->first <= last && entry->first + (entry->bytes - 1) >= first)
            entry->bytes = 0;
    }
}

#endif
