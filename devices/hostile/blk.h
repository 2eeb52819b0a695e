/*
 * Turns a virtio-blk hostile, on the host's command: it lies to its driver through the
 * used ring, and reaches for memory that no request gave it. Each act says what came of
 * it, so that a test can tell a device that was stopped from one that did not try.
 */
#ifndef STRATA_HOSTILE_BLK_H
#define STRATA_HOSTILE_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/iommu/dma_request.h"
#include "devices/virtio/blk.h"

enum hostile_blk {
    HOSTILE_BLK_HONEST,          /* as it was; what was withheld is given back */
    HOSTILE_BLK_ID_NEVER_ISSUED, /* used id: a head that is not under way */
    HOSTILE_BLK_ID_OUT_OF_RANGE, /* used id: not a descriptor of the table */
    HOSTILE_BLK_ID_TWICE,        /* used id: the request completed before this one */
    HOSTILE_BLK_LENGTH,          /* used length: more than the buffer has */
    HOSTILE_BLK_INDEX_JUMP,      /* used index: more elements than requests were made */
    HOSTILE_BLK_STATUS,          /* a status that does not exist */
    HOSTILE_BLK_WRITE_OUTSIDE,   /* writes past the end of the last data segment */
    HOSTILE_BLK_WRITE_ANYWHERE,  /* writes at an address of the host's choice */
    HOSTILE_BLK_REPLAY,          /* remembers data segments; hostile_blk_replay writes them */
    HOSTILE_BLK_WITHHOLD,        /* carries requests out and never completes them */
    HOSTILE_BLK_CAPACITY,        /* says at once that the disk is larger than it is */
    HOSTILE_BLK_MODES,
};

struct hostile_blk_plan {
    enum hostile_blk mode;
    unsigned skip;    /* honest completions first */
    unsigned acts;    /* then so many hostile ones, then honest again; 0: no end */
    uint64_t address; /* WRITE_ANYWHERE */
    uint64_t bytes;   /* WRITE_OUTSIDE, WRITE_ANYWHERE: how many; 0: 64 */
    uint8_t fill;     /* the byte that is written */
};

struct hostile_blk_outcome {
    uint64_t completions; /* seen since it turned hostile */
    uint64_t acts;        /* of them lied about, or used for an attack */
    uint64_t tried_bytes; /* DMA that no request asked for */
    uint64_t done_bytes;  /* of it: got through to memory */
    uint64_t faults;      /* of it: stopped at the dma handle */
    struct dma_outcome last;
    uint64_t withheld; /* now */
};

/*
 * All of these: without the dma handle's lock, while the VM runs or not, from a thread that is
 * inside (vm_thread.h) or that pauses the VM itself, as they reach for the guest's memory.
 */

/* Starts the outcome anew. 0; -EINVAL: no such mode; -ENOMEM. */
int virtio_blk_turn_hostile(struct virtio_blk *blk, const struct hostile_blk_plan *plan);

/*
 * HOSTILE_BLK_REPLAY: writes `fill` over what the remembered request's data was, now, up
 * to the first fault; also counted in the device's outcome. -ENOENT: no request was remembered.
 */
int hostile_blk_replay(struct virtio_blk *blk, struct dma_outcome *outcome);

void hostile_blk_outcome(struct virtio_blk *blk, struct hostile_blk_outcome *outcome);

#endif
