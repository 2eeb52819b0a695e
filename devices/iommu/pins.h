/*
 * How many mappings each 4K page of RAM is under: such a page must stay where it is. One
 * count for each page up to the end of RAM, in memory that is touched only where
 * something is mapped.
 */
#ifndef STRATA_IOMMU_PINS_H
#define STRATA_IOMMU_PINS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pins {
    _Atomic uint32_t *count;
    uint64_t pages;
    atomic_ullong pinned; /* pages with a count */
};

/* Pages of [0, end). 0 or -ENOMEM. */
int pins_create(struct pins *pins, uint64_t end);
void pins_destroy(struct pins *pins);

/* [gpa, gpa + bytes) in whole pages; what lies beyond the end is ignored. One thread at a time. */
void pins_add(struct pins *pins, uint64_t gpa, uint64_t bytes);
void pins_remove(struct pins *pins, uint64_t gpa, uint64_t bytes);

/* Whether any byte of [gpa, gpa + len) is on a pinned page. From any thread. */
bool pins_any(const struct pins *pins, uint64_t gpa, uint64_t len);

#endif
