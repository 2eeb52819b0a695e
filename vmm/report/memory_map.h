/*
 * A map of guest memory: every frame with what it is for, whose it is and
 * where it is mapped, at one moment. memory_map_capture() is for when the world is stopped;
 * making JSON of it is for afterwards.
 *
 * The JSON (strata(1), CONTROL SOCKET, "map") is small enough to be carried in a page,
 * whatever the guest does: what is alike is one run, and where there are too many frames or
 * too many runs, 4, 16, … neighbours are folded into one cell that only counts them.
 */
#ifndef STRATA_REPORT_MEMORY_MAP_H
#define STRATA_REPORT_MEMORY_MAP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/frames.h"
#include "vmm/inspect/shared_list.h"
#include "vmm/inspect/spaces.h"

#define MEMORY_MAP_CELLS_MAX  65536 /* a square of 256 */
#define MEMORY_MAP_PARTS_MAX  30000 /* some 30 bytes each */
#define MEMORY_MAP_KERNEL_MAX 1024

/* Where the kernel's half has consecutive frames at consecutive addresses. */
struct memory_map_kernel {
    uint64_t va, gpa, pages;
    bool writable, nx;
};

struct memory_map {
    struct frame_map map;
    struct shared_list
        mapped; /* all mapped frames; the shared ones where frames are folded anyway */
    struct frame_totals totals;
    size_t nkernel;
    struct memory_map_kernel *kernel; /* room for MEMORY_MAP_KERNEL_MAX */
    bool complete;
};

/* Room for all; before the world is stopped. 0 or -ENOMEM; memory_map_destroy either way. */
int memory_map_create(struct memory_map *memory_map, const struct memory *memory);
void memory_map_destroy(struct memory_map *memory_map);

/* With the world stopped. `iommu` may be NULL. 0 or -ENOMEM. */
int memory_map_capture(struct memory_map *memory_map, const struct spaces *spaces,
                       const struct iommu *iommu, uint64_t *budget);

/*
 * {"slots": [[page, pages], …], "spaces", "kinds": names by number, "bundled", "fold": frames
 * in a cell, "complete"} and, where fold is 1, "runs": [[first frame, frames, kind, space that
 * owns it or -1, FRAME_* flags, mappings, [[space, page of the VA, 1 writable + 2 COW], …]], …],
 * else "cells": [[first cell, cells, [[kind, space, flags, mappings up to 2, frames], …]], …];
 * "kernel": [[page of the VA, page, pages, 1 writable + 2 executable], …]. Pages are addresses
 * divided by 4096. Frames count through all slots.
 */
json_t *memory_map_json(const struct memory_map *memory_map, const struct spaces *spaces);

#endif
