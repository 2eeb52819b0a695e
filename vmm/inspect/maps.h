/*
 * What address spaces map, folded into ranges of consecutive pages alike in rights, page
 * size and sharing.
 *
 * Stop the world first (spaces.h).
 */
#ifndef STRATA_INSPECT_MAPS_H
#define STRATA_INSPECT_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/frames.h"
#include "vmm/inspect/spaces.h"

enum map_sharing {
    MAPS_KERNEL,  /* not user memory: sharing does not say much, every space has it */
    MAPS_PRIVATE, /* mapped once, in all spaces that were found */
    MAPS_SHARED,
    MAPS_COW,    /* copied on write; of the bundled guest only, whose bit for it is known */
    MAPS_DEVICE, /* no RAM there */
};

struct map_range {
    uint64_t first, last; /* addresses, inclusive */
    uint64_t gpa;         /* of the first page, */
    bool contiguous;      /* and whether the others follow it */
    uint64_t pages;
    uint64_t page_bytes;
    uint64_t accessed, dirty; /* pages whose entry has the bit */
    bool writable, user, nx;
    enum map_sharing sharing;
};

#define MAPS_RANGES_MAX 65536

struct maps {
    size_t n, room;
    struct map_range *range;
    size_t end[SPACES_MAX]; /* behind the last range of each space */
    bool complete;          /* false: budget or room ran out, the rest is missing */
};

/*
 * The ranges of every space, those of an upper half with the first space that has it.
 * `frames` has been counted. 0 or -ENOMEM; maps_destroy either way.
 */
int maps_make(struct maps *maps, const struct spaces *spaces, const struct frame_map *frames,
              uint64_t *budget);
void maps_destroy(struct maps *maps);

/* "private", …; never NULL. */
const char *map_sharing_name(enum map_sharing sharing);

#endif
