/*
 * Every frame of guest RAM: what it is for, who maps it, how often. Counted by walking
 * all address spaces; what the bundled guest's own frame table claims stands beside it,
 * so that the two can be held against each other. `pages`, `shared` and the pictures
 * are made from this.
 *
 * Stop the world first (spaces.h).
 */
#ifndef STRATA_INSPECT_FRAMES_H
#define STRATA_INSPECT_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/spaces.h"
#include "vmm/machine/memory.h"

struct iommu;

enum frame_kind {
    FRAME_UNKNOWN, /* of a guest that does not say, and no user memory nor table */
    FRAME_FREE,
    FRAME_IMAGE,   /* the kernel's image, its tables, and what was loaded with it */
    FRAME_PROGRAM, /* of the image, a bundled program's page: user memory too */
    FRAME_KERNEL,
    FRAME_TABLE, /* page tables of an address space */
    FRAME_USER,
    FRAME_KINDS
};

#define FRAME_COW    1u /* mapped copy-on-write somewhere */
#define FRAME_PINNED 2u /* under a DMA mapping of the IOMMU */
#define FRAME_SEEN   4u /* a walk met it as a page table */

struct frame {
    uint16_t mappings; /* by pages of user memory, as far as 16 bits go */
    uint8_t owner;     /* 1 + index of the first space that maps it or has it as a table; 0: none */
    uint8_t kind : 4, flags : 4; /* enum frame_kind, FRAME_* */
};

struct frame_map {
    const struct memory *memory;
    size_t n;
    struct frame *frame;                 /* slot by slot, by ascending address in each */
    size_t first[MEMORY_SLOTS_MAX];      /* index of each slot's first frame */
    uint64_t user_tables, kernel_tables; /* distinct table pages that walks met, by half */
    uint64_t broken;                     /* entries that cannot be walked */
    uint64_t outside;                    /* user mappings of what is not RAM */
    bool complete;                       /* false: the budget ran out first */
};

/* Room for all frames, nothing counted: before the world is stopped. 0 or -ENOMEM. */
int frame_map_create(struct frame_map *map, const struct memory *memory);
void frame_map_destroy(struct frame_map *map);

/*
 * Counts, once for each map. `iommu` may be NULL. What is left of the budget is in *budget.
 */
void frame_map_count(struct frame_map *map, const struct spaces *spaces, const struct iommu *iommu,
                     uint64_t *budget);

/* The frame at gpa, NULL if there is no RAM. */
struct frame *frame_map_at(const struct frame_map *map, uint64_t gpa);

/* The address of frame i < n. */
uint64_t frame_map_gpa(const struct frame_map *map, size_t i);

/* "free", "user", …; never NULL. */
const char *frame_kind_name(enum frame_kind kind);

/* ---- Totals --------------------------------------------------------------- */

#define FRAMES_SHARED_MAX 9 /* shared by so many, the last one: or more */

struct frame_totals {
    uint64_t ram;
    uint64_t kind[FRAME_KINDS];
    /* Frames of user memory by their mappings: [0] none (shared objects, tables yet to
     * be filled), [1] private, [n] shared by n. */
    uint64_t mapped_by[FRAMES_SHARED_MAX + 1];
    uint64_t cow;
    uint64_t pinned;
    uint64_t saved_bytes; /* what private copies of shared frames would cost more */
    /* The guest's frame table against the walks; all 0 in a sound guest. */
    uint64_t free_but_mapped, table_not_seen, seen_not_table;
    uint64_t refs_unlike; /* fewer references than mappings */
};

/* With the world still stopped: the guest's table is read again. */
void frame_map_total(const struct frame_map *map, const struct spaces *spaces,
                     struct frame_totals *totals);

#endif
