/*
 * Lists of page frames: a buffer's pages in order, runs of neighbours as one. A huge page
 * is a run of its own.
 */
#ifndef STRATA_KERNEL_MM_EXTENTS_H
#define STRATA_KERNEL_MM_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/proc/process.h"

struct extent {
    uint32_t frame, pages;
};

#define EXTENTS_INSIDE 2

struct extents {
    uint32_t count;
    uint32_t more; /* a frame full of them, where they do not fit inside; 0: none */
    struct extent inside[EXTENTS_INSIDE];
};

static inline uint64_t extents_frame_va(uint32_t frame)
{
    return DIRECT_MAP + ((uint64_t)frame << 12);
}

static inline const struct extent *extents_all(const struct extents *e)
{
    return e->more ? (const struct extent *)extents_frame_va(e->more) : e->inside;
}

/* Appends pages; with `join` to the last run if they follow it. -ABI_ENOMEM. */
int extents_add(struct extents *e, uint64_t frame, uint64_t pages, bool join);

/*
 * The pages of [va, va + bytes) of a process, faulted in, for writing private; pinned if
 * `pin`. 0 or -ABI_E*, with nothing held.
 */
int extents_of_user(struct extents *e, struct process *p, uint64_t va, uint64_t bytes, bool write,
                    bool pin);

/* So many zeroed pages of the kernel. */
int extents_alloc(struct extents *e, uint64_t pages);

/* The kernel's address of byte `offset`, counted from the start of the first page. */
char *extents_at(const struct extents *e, uint64_t offset);

/* Forgets them; gives pins or references up. */
enum extents_hold { EXTENTS_NONE, EXTENTS_PINNED, EXTENTS_OWNED };
void extents_drop(struct extents *e, enum extents_hold hold);

#endif
