/*
 * The IOMMU's page table: a radix tree of 512-entry tables, as x86's own, with leaves of
 * 4K, 2M and 1G and as many levels as the input range needs (four for 48 bits).
 *
 * One thread changes it at a time; any number may walk it meanwhile. A mapping marks its
 * first and last leaf, so that the tree alone tells where mappings begin and end.
 * Unmapping is done in steps, because walkers have no lock:
 *
 *   iopt_unmap          no walk that starts from now on finds the range;
 *   (the caller waits for walks that are under way, and for uses of what they found)
 *   iopt_clear          clears the entries, reports what they led to, unlinks empty tables;
 *   (the caller waits for walks again, if iopt_has_unlinked)
 *   iopt_free_unlinked  frees those.
 *
 * Ranges are [first, last] in whole pages of 4K, at most the table's last address.
 */
#ifndef STRATA_IOMMU_IOPT_H
#define STRATA_IOMMU_IOPT_H

#include <stdbool.h>
#include <stdint.h>

#define IOPT_PAGE_SHIFT 12
#define IOPT_PAGE_BYTES (1ull << IOPT_PAGE_SHIFT)
#define IOPT_GPA_LIMIT  (1ull << 52) /* entries hold addresses below */

struct iopt_table;

/* How many tables all trees of a unit may have, and have. */
struct iopt_budget {
    uint64_t tables, tables_max;
};

struct iopt {
    struct iopt_table *root;
    unsigned root_shift;         /* address bits below the root's index */
    uint64_t last;               /* highest address */
    uint64_t leaf_sizes;         /* besides 4K */
    uint64_t mappings;           /* live */
    struct iopt_table *unlinked; /* not freed yet */
    struct iopt_table *near;     /* of pages, from near_first on: changed last; NULL: none */
    uint64_t near_first;
    struct iopt_budget *budget;
};

struct iopt_leaf {
    uint64_t first, bytes; /* addresses it covers */
    uint64_t gpa;          /* of first */
    uint32_t prot;         /* IOMMU_* */
    bool starts, ends;     /* a mapping */
};

/* 0, or -ENOMEM also where the budget is spent. Leaves of a size in page_size_mask. */
int iopt_create(struct iopt *iopt, uint64_t last, uint64_t page_size_mask,
                struct iopt_budget *budget);

/* No walk may be under way. */
void iopt_destroy(struct iopt *iopt);

/* The leaf that holds iova; false if there is none. Lock-free. */
bool iopt_walk(const struct iopt *iopt, uint64_t iova, struct iopt_leaf *leaf);

/*
 * The same; and in *bytes how much is one piece from leaf->first on: with leaves of the same
 * table that follow, as far as `last`, where their prot is the same and their targets touch.
 */
bool iopt_walk_run(const struct iopt *iopt, uint64_t iova, uint64_t last, struct iopt_leaf *leaf,
                   uint64_t *bytes);

/* Whether anything in [first, last] is mapped. */
bool iopt_any(const struct iopt *iopt, uint64_t first, uint64_t last);

/* Whether a mapping lies partly inside [first, last] and partly outside. */
bool iopt_splits(const struct iopt *iopt, uint64_t first, uint64_t last);

/*
 * Maps [first, last], which must be empty, to gpa on. 0 or -ENOMEM: the caller
 * unmaps what is there by then (unmap, clear, free_unlinked).
 */
int iopt_map(struct iopt *iopt, uint64_t first, uint64_t last, uint64_t gpa, uint32_t prot);

void iopt_unmap(struct iopt *iopt, uint64_t first, uint64_t last);
/* Calls `cleared` (may be NULL) for each leaf of [first, last] that iopt_unmap has unmapped. */
void iopt_clear(struct iopt *iopt, uint64_t first, uint64_t last,
                void (*cleared)(void *owner, const struct iopt_leaf *leaf), void *owner);
bool iopt_has_unlinked(const struct iopt *iopt);
void iopt_free_unlinked(struct iopt *iopt);

/* Calls `visit` for each leaf in [first, last], ascending. */
void iopt_each(const struct iopt *iopt, uint64_t first, uint64_t last,
               void (*visit)(void *owner, const struct iopt_leaf *leaf), void *owner);

#endif
