/*
 * A device that believes its driver: walks a descriptor chain as it stands in memory,
 * with none of the checks of devices/core/virtqueue.h. It exists to show what those
 * checks are for. Only its watchdog and the dma handle keep it from doing harm.
 */
#ifndef STRATA_HOSTILE_NAIVE_QUEUE_H
#define STRATA_HOSTILE_NAIVE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/core/virtqueue.h"

#define NAIVE_QUEUE_WATCHDOG 4096 /* far more than any honest chain */

struct naive_queue_plan {
    struct virtqueue_state queue; /* where it is; next_available is the chain to take */
    uint32_t len_max;             /* the one check it makes: a descriptor's length */
    uint8_t fill;                 /* what it writes into writable descriptors */
    /* Called between the check of a descriptor and its use (NULL: not). */
    void (*between)(void *owner, uint64_t step);
    void *owner;
};

struct naive_queue_walk {
    uint64_t steps;         /* descriptors it followed */
    bool watchdog;          /* did not come to an end by itself */
    bool left_table;        /* followed an index beyond a table's end */
    bool nested;            /* followed an indirect table from within one */
    bool changed;           /* a descriptor was another one when it was used */
    uint64_t checked_bytes; /* lengths as checked */
    uint64_t used_bytes;    /* lengths as used */
    uint64_t done_bytes;    /* of these: moved */
    int error;              /* 0, or what the dma handle said to the last access it refused */
};

/* Takes one chain, and moves its data. Without the dma handle's lock. */
void naive_queue_walk(struct dma *dma, const struct naive_queue_plan *plan,
                      struct naive_queue_walk *walk);

#endif
