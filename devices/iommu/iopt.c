#include "devices/iommu/iopt.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "devices/iommu/iommu.h"

#define INDEX_BITS 9
#define ENTRIES    (1u << INDEX_BITS)

/*
 * An entry: what it is in the two lowest bits. A table's address is aligned to 16; a leaf
 * has its target from bit 12 on and its flags below.
 */
#define KIND          3ull
#define KIND_NONE     0ull
#define KIND_TABLE    1ull
#define KIND_LEAF     2ull
#define KIND_UNMAPPED 3ull /* was a leaf: no access, but its target is still to be unpinned */
#define PROT_SHIFT    2
#define PROT_MASK     (IOMMU_READ | IOMMU_WRITE | IOMMU_MMIO)
#define MAPPING_FIRST (1ull << 5)
#define MAPPING_LAST  (1ull << 6)
#define TABLE_ADDRESS (~15ull)
#define LEAF_ADDRESS  ((IOPT_GPA_LIMIT - 1) & ~(IOPT_PAGE_BYTES - 1))

struct iopt_table {
    _Atomic uint64_t entry[ENTRIES];
    unsigned used; /* entries that are not KIND_NONE; only the changing thread looks */
    struct iopt_table *next_unlinked;
};

static unsigned index_at(uint64_t iova, unsigned shift)
{
    return iova >> shift & (ENTRIES - 1);
}

/*
 * Pairs with the release in set(): who sees a table's address sees the table zeroed,
 * and who sees a leaf sees the pins that were taken before it.
 */
static uint64_t get(const struct iopt_table *table, unsigned i)
{
    return atomic_load_explicit(&table->entry[i], memory_order_acquire);
}

static void set(struct iopt_table *table, unsigned i, uint64_t entry)
{
    atomic_store_explicit(&table->entry[i], entry, memory_order_release);
}

static struct iopt_table *table_of(uint64_t entry)
{
    return (struct iopt_table *)(uintptr_t)(entry & TABLE_ADDRESS);
}

/* Last address of the part of [first, last] that one entry covers. */
static uint64_t end_of_entry(uint64_t first, uint64_t last, unsigned shift)
{
    uint64_t end = first | ((1ull << shift) - 1);

    return end < last ? end : last;
}

static struct iopt_table *new_table(struct iopt_budget *budget)
{
    struct iopt_table *table;

    if (budget->tables >= budget->tables_max)
        return NULL;
    table = calloc(1, sizeof(*table));
    if (table)
        budget->tables++;
    return table;
}

static void free_table(struct iopt_table *table, struct iopt_budget *budget)
{
    free(table);
    budget->tables--;
}

int iopt_create(struct iopt *iopt, uint64_t last, uint64_t page_size_mask,
                struct iopt_budget *budget)
{
    unsigned shift = IOPT_PAGE_SHIFT;

    while (shift + INDEX_BITS < 64 && last >> (shift + INDEX_BITS))
        shift += INDEX_BITS;
    *iopt = (struct iopt){
        .root = new_table(budget),
        .root_shift = shift,
        .last = last,
        .leaf_sizes = page_size_mask & (1ull << 21 | 1ull << 30),
        .budget = budget,
    };
    return iopt->root ? 0 : -ENOMEM;
}

static void destroy_in(struct iopt *iopt, struct iopt_table *table)
{
    for (unsigned i = 0; i < ENTRIES && table->used; i++) {
        uint64_t entry = get(table, i);

        table->used -= entry != KIND_NONE;
        if ((entry & KIND) == KIND_TABLE)
            destroy_in(iopt, table_of(entry));
    }
    free_table(table, iopt->budget);
}

void iopt_destroy(struct iopt *iopt)
{
    iopt_free_unlinked(iopt);
    if (iopt->root)
        destroy_in(iopt, iopt->root);
    iopt->root = NULL;
}

static struct iopt_leaf leaf_of(uint64_t entry, uint64_t iova, unsigned shift)
{
    return (struct iopt_leaf){
        .first = iova & ~((1ull << shift) - 1),
        .bytes = 1ull << shift,
        .gpa = entry & LEAF_ADDRESS,
        .prot = entry >> PROT_SHIFT & PROT_MASK,
        .starts = entry & MAPPING_FIRST,
        .ends = entry & MAPPING_LAST,
    };
}

/* The entry that iova leads to, and its table; KIND_NONE: nothing is mapped. */
static inline uint64_t find(const struct iopt *iopt, uint64_t iova, const struct iopt_table **table,
                            unsigned *shift)
{
    uint64_t entry;

    if (iova > iopt->last)
        return KIND_NONE;
    *table = iopt->root;
    *shift = iopt->root_shift;
    while (((entry = get(*table, index_at(iova, *shift))) & KIND) == KIND_TABLE) {
        *table = table_of(entry);
        *shift -= INDEX_BITS;
    }
    return (entry & KIND) == KIND_LEAF ? entry : KIND_NONE;
}

#define TABLE_SPAN (1ull << (IOPT_PAGE_SHIFT + INDEX_BITS)) /* that a table of pages covers */

static bool is_near(const struct iopt *iopt, uint64_t iova)
{
    return iopt->near && iova - iopt->near_first < TABLE_SPAN;
}

/* The changing thread goes on where it was: what follows is likely about neighbours. */
static void come_near(struct iopt *iopt, struct iopt_table *table, uint64_t iova)
{
    iopt->near = table;
    iopt->near_first = iova & ~(TABLE_SPAN - 1);
}

bool iopt_walk(const struct iopt *iopt, uint64_t iova, struct iopt_leaf *leaf)
{
    const struct iopt_table *table;
    unsigned shift;
    uint64_t entry = find(iopt, iova, &table, &shift);

    if (!entry)
        return false;
    *leaf = leaf_of(entry, iova, shift);
    return true;
}

bool iopt_walk_run(const struct iopt *iopt, uint64_t iova, uint64_t last, struct iopt_leaf *leaf,
                   uint64_t *bytes)
{
    const struct iopt_table *table;
    unsigned shift;
    uint64_t entry = find(iopt, iova, &table, &shift), end;

    if (!entry)
        return false;
    *leaf = leaf_of(entry, iova, shift);
    end = leaf->first + (leaf->bytes - 1);
    for (unsigned i = index_at(iova, shift) + 1; i < ENTRIES && end < last; i++) {
        entry += leaf->bytes;
        if ((get(table, i) ^ entry) & ~(MAPPING_FIRST | MAPPING_LAST))
            break;
        end += leaf->bytes;
    }
    *bytes = end - leaf->first + 1;
    return true;
}

static bool any_page(const struct iopt_table *table, unsigned i, unsigned end)
{
    for (; i <= end; i++) {
        if ((get(table, i) & KIND) == KIND_LEAF)
            return true;
    }
    return false;
}

static bool any_in(const struct iopt_table *table, unsigned shift, uint64_t first, uint64_t last)
{
    unsigned end = index_at(last, shift);

    if (shift == IOPT_PAGE_SHIFT)
        return any_page(table, index_at(first, shift), end);
    for (unsigned i = index_at(first, shift); i <= end; i++) {
        uint64_t entry = get(table, i), stop = end_of_entry(first, last, shift);

        if ((entry & KIND) == KIND_LEAF)
            return true;
        if ((entry & KIND) == KIND_TABLE &&
            any_in(table_of(entry), shift - INDEX_BITS, first, stop))
            return true;
        first = stop + 1;
    }
    return false;
}

bool iopt_any(const struct iopt *iopt, uint64_t first, uint64_t last)
{
    if (is_near(iopt, first) && is_near(iopt, last))
        return any_page(iopt->near, index_at(first, IOPT_PAGE_SHIFT),
                        index_at(last, IOPT_PAGE_SHIFT));
    return any_in(iopt->root, iopt->root_shift, first, last);
}

/* The entry for a change: as find(). */
static inline uint64_t find_near(const struct iopt *iopt, uint64_t iova, unsigned *shift)
{
    const struct iopt_table *table;
    uint64_t entry;

    if (!is_near(iopt, iova))
        return find(iopt, iova, &table, shift);
    *shift = IOPT_PAGE_SHIFT;
    entry = get(iopt->near, index_at(iova, IOPT_PAGE_SHIFT));
    return (entry & KIND) == KIND_LEAF ? entry : KIND_NONE;
}

bool iopt_splits(const struct iopt *iopt, uint64_t first, uint64_t last)
{
    unsigned shift;
    uint64_t entry = find_near(iopt, first, &shift);

    if (entry && (first & ((1ull << shift) - 1) || !(entry & MAPPING_FIRST)))
        return true;
    entry = find_near(iopt, last, &shift);
    return entry && (~last & ((1ull << shift) - 1) || !(entry & MAPPING_LAST));
}

struct mapping {
    uint64_t first, last, gpa;
    uint32_t prot;
};

static void map_pages(struct iopt *iopt, struct iopt_table *table, uint64_t first, uint64_t last,
                      const struct mapping *mapping)
{
    unsigned i = index_at(first, IOPT_PAGE_SHIFT), end = index_at(last, IOPT_PAGE_SHIFT);
    uint64_t entry = mapping->gpa + (first - mapping->first);

    table->used += end - i + 1;
    entry |= (uint64_t)mapping->prot << PROT_SHIFT | KIND_LEAF;
    if (first == mapping->first) {
        iopt->mappings++;
        if (i < end)
            set(table, i++, entry | MAPPING_FIRST), entry += IOPT_PAGE_BYTES;
        else
            entry |= MAPPING_FIRST;
    }
    for (; i < end; i++, entry += IOPT_PAGE_BYTES)
        set(table, i, entry);
    set(table, end, last == mapping->last ? entry | MAPPING_LAST : entry);
}

static int map_in(struct iopt *iopt, struct iopt_table *table, unsigned shift, uint64_t first,
                  uint64_t last, const struct mapping *mapping)
{
    unsigned end = index_at(last, shift);
    uint64_t offset = (1ull << shift) - 1;
    bool leaves = iopt->leaf_sizes & 1ull << shift;

    if (shift == IOPT_PAGE_SHIFT) {
        come_near(iopt, table, first);
        map_pages(iopt, table, first, last, mapping);
        return 0;
    }
    for (unsigned i = index_at(first, shift); i <= end; i++) {
        uint64_t stop = end_of_entry(first, last, shift), entry = get(table, i);
        uint64_t gpa = mapping->gpa + (first - mapping->first);
        int err;

        if (leaves && stop - first == offset && !(gpa & offset)) {
            set(table, i,
                gpa | (uint64_t)mapping->prot << PROT_SHIFT |
                    (first == mapping->first ? MAPPING_FIRST : 0) |
                    (stop == mapping->last ? MAPPING_LAST : 0) | KIND_LEAF);
            table->used++;
            iopt->mappings += first == mapping->first;
        } else {
            if (entry == KIND_NONE) {
                struct iopt_table *child = new_table(iopt->budget);

                if (!child)
                    return -ENOMEM;
                entry = (uintptr_t)child | KIND_TABLE;
                set(table, i, entry);
                table->used++;
            }
            err = map_in(iopt, table_of(entry), shift - INDEX_BITS, first, stop, mapping);
            if (err)
                return err;
        }
        first = stop + 1;
    }
    return 0;
}

int iopt_map(struct iopt *iopt, uint64_t first, uint64_t last, uint64_t gpa, uint32_t prot)
{
    const struct mapping mapping = { first, last, gpa, prot };

    if (is_near(iopt, first) && is_near(iopt, last)) {
        map_pages(iopt, iopt->near, first, last, &mapping);
        return 0;
    }
    return map_in(iopt, iopt->root, iopt->root_shift, first, last, &mapping);
}

static void unmap_entry(struct iopt *iopt, struct iopt_table *table, unsigned i, uint64_t entry)
{
    iopt->mappings -= (entry & MAPPING_FIRST) != 0;
    set(table, i, entry | KIND_UNMAPPED);
}

static void unmap_pages(struct iopt *iopt, struct iopt_table *table, unsigned i, unsigned end)
{
    for (; i <= end; i++) {
        uint64_t entry = get(table, i);

        if ((entry & KIND) == KIND_LEAF)
            unmap_entry(iopt, table, i, entry);
    }
}

static void unmap_in(struct iopt *iopt, struct iopt_table *table, unsigned shift, uint64_t first,
                     uint64_t last)
{
    unsigned end = index_at(last, shift);

    if (shift == IOPT_PAGE_SHIFT) {
        come_near(iopt, table, first);
        unmap_pages(iopt, table, index_at(first, shift), end);
        return;
    }
    for (unsigned i = index_at(first, shift); i <= end; i++) {
        uint64_t stop = end_of_entry(first, last, shift), entry = get(table, i);

        if ((entry & KIND) == KIND_TABLE)
            unmap_in(iopt, table_of(entry), shift - INDEX_BITS, first, stop);
        else if ((entry & KIND) == KIND_LEAF)
            unmap_entry(iopt, table, i, entry);
        first = stop + 1;
    }
}

void iopt_unmap(struct iopt *iopt, uint64_t first, uint64_t last)
{
    if (is_near(iopt, first) && is_near(iopt, last))
        unmap_pages(iopt, iopt->near, index_at(first, IOPT_PAGE_SHIFT),
                    index_at(last, IOPT_PAGE_SHIFT));
    else
        unmap_in(iopt, iopt->root, iopt->root_shift, first, last);
}

struct visitor {
    void (*visit)(void *owner, const struct iopt_leaf *leaf);
    void *owner;
};

static void clear_entry(struct iopt_table *table, unsigned i, const struct iopt_leaf *leaf,
                        const struct visitor *visitor)
{
    set(table, i, KIND_NONE);
    table->used--;
    if (visitor->visit)
        visitor->visit(visitor->owner, leaf);
}

static void clear_pages(struct iopt_table *table, uint64_t first, uint64_t last,
                        const struct visitor *visitor)
{
    unsigned end = index_at(last, IOPT_PAGE_SHIFT);

    for (unsigned i = index_at(first, IOPT_PAGE_SHIFT); i <= end; i++, first += IOPT_PAGE_BYTES) {
        uint64_t entry = get(table, i);
        struct iopt_leaf leaf;

        if ((entry & KIND) != KIND_UNMAPPED)
            continue;
        leaf = leaf_of(entry, first, IOPT_PAGE_SHIFT);
        clear_entry(table, i, &leaf, visitor);
    }
}

static void clear_in(struct iopt *iopt, struct iopt_table *table, unsigned shift, uint64_t first,
                     uint64_t last, const struct visitor *visitor)
{
    unsigned end = index_at(last, shift);

    if (shift == IOPT_PAGE_SHIFT) {
        clear_pages(table, first, last, visitor);
        return;
    }
    for (unsigned i = index_at(first, shift); i <= end; i++) {
        uint64_t stop = end_of_entry(first, last, shift), entry = get(table, i);

        if ((entry & KIND) == KIND_UNMAPPED) {
            struct iopt_leaf leaf = leaf_of(entry, first, shift);

            clear_entry(table, i, &leaf, visitor);
        } else if ((entry & KIND) == KIND_TABLE) {
            struct iopt_table *child = table_of(entry);

            clear_in(iopt, child, shift - INDEX_BITS, first, stop, visitor);
            if (!child->used) {
                set(table, i, KIND_NONE);
                table->used--;
                child->next_unlinked = iopt->unlinked;
                iopt->unlinked = child;
                if (iopt->near == child)
                    iopt->near = NULL;
            }
        }
        first = stop + 1;
    }
}

void iopt_clear(struct iopt *iopt, uint64_t first, uint64_t last,
                void (*cleared)(void *owner, const struct iopt_leaf *leaf), void *owner)
{
    const struct visitor visitor = { cleared, owner };

    if (is_near(iopt, first) && is_near(iopt, last)) {
        clear_pages(iopt->near, first, last, &visitor);
        if (iopt->near->used)
            return;
        /* Empty: it is unlinked from above. */
    }
    clear_in(iopt, iopt->root, iopt->root_shift, first, last, &visitor);
}

bool iopt_has_unlinked(const struct iopt *iopt)
{
    return iopt->unlinked;
}

void iopt_free_unlinked(struct iopt *iopt)
{
    while (iopt->unlinked) {
        struct iopt_table *table = iopt->unlinked;

        iopt->unlinked = table->next_unlinked;
        free_table(table, iopt->budget);
    }
}

static void each_in(const struct iopt_table *table, unsigned shift, uint64_t first, uint64_t last,
                    const struct visitor *visitor)
{
    unsigned end = index_at(last, shift);

    for (unsigned i = index_at(first, shift); i <= end; i++) {
        uint64_t stop = end_of_entry(first, last, shift), entry = get(table, i);

        if ((entry & KIND) == KIND_TABLE) {
            each_in(table_of(entry), shift - INDEX_BITS, first, stop, visitor);
        } else if ((entry & KIND) == KIND_LEAF) {
            struct iopt_leaf leaf = leaf_of(entry, first, shift);

            visitor->visit(visitor->owner, &leaf);
        }
        first = stop + 1;
    }
}

void iopt_each(const struct iopt *iopt, uint64_t first, uint64_t last,
               void (*visit)(void *owner, const struct iopt_leaf *leaf), void *owner)
{
    const struct visitor visitor = { visit, owner };

    each_in(iopt->root, iopt->root_shift, first, last, &visitor);
}
