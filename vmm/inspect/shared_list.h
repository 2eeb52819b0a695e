/*
 * The list of mapped frames of guest RAM, with everything that maps each: made from a counted
 * struct frame_map, with the world still stopped.
 */
#ifndef STRATA_INSPECT_SHARED_LIST_H
#define STRATA_INSPECT_SHARED_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/frames.h"

#define SHARERS_MAX 8

/* Consecutive frames, mapped by the same spaces at consecutive addresses. */
struct shared_run {
    uint64_t gpa;
    uint64_t frames;
    unsigned mappings; /* of each frame */
    unsigned nsharers; /* as many of them as there is room for */
    struct {
        unsigned space;
        uint64_t va;
        bool writable, cow;
    } sharer[SHARERS_MAX];
};

struct shared_list {
    size_t n;
    struct shared_run *run; /* ascending */
    bool complete;
};

/*
 * The frames with at least so many mappings: 1 all that are mapped, 2 the shared ones. After
 * frame_map_count. 0 or -ENOMEM; shared_list_destroy either way.
 */
int shared_list_make(struct shared_list *list, const struct frame_map *map,
                     const struct spaces *spaces, unsigned least, uint64_t *budget);
void shared_list_destroy(struct shared_list *list);

#endif
