/*
 * The virtio-blk driver (virtio 1.2, 5.2): requests, many at a time, each one descriptor
 * with an indirect table. Who asks for them, and for what, is blk_call.c's.
 */
#ifndef STRATA_KERNEL_DRIVERS_BLK_H
#define STRATA_KERNEL_DRIVERS_BLK_H

#include "guest/kernel/drivers/device.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/proc/process.h"

#define BLK_REQUESTS        32
#define BLK_SECTOR_BYTES    512
#define BLK_CHUNK_BYTES     (1u << 20) /* of one request of a READ or WRITE, translated */
#define BLK_SEGMENTS_MAX    60
#define BLK_CHUNK_SCATTERED (32 * ABI_PAGE_BYTES) /* and where its pages lie anywhere */

enum blk_type {
    BLK_IN = 0,
    BLK_OUT = 1,
    BLK_FLUSH = 4,
    BLK_DISCARD = 11,
};

struct blk_job;
struct dma_mapping;

struct blk_request {
    struct blk_request *next;    /* free, or in a batch */
    struct blk_job *job;         /* NULL: free, or `read`'s */
    struct page_read *read;      /* of the page cache; NULL: none */
    struct dma_mapping *mapping; /* maybe shared with others of the same job */
    uint64_t offset;             /* of its data in there */
    enum blk_type type;
    uint32_t bytes; /* of data */
    uint64_t sector;
    char *memory; /* what the device reads: header, span, table */
    uint64_t memory_iova;
    volatile uint8_t *status; /* what it writes */
    uint64_t status_iova;
};

struct blk {
    struct device *device;
    bool up;
    uint64_t capacity; /* sectors */
    uint32_t flags;    /* ABI_BLOCK_READ_ONLY, … */
    struct blk_request *free;
    struct blk_request *requests; /* a frame of BLK_REQUESTS */
    char *status_page;
    uint64_t status_iova;
    unsigned touched;     /* requests that have memory */
    struct blk_job *jobs; /* a frame of them */
    struct virtq queue;
};

extern const struct driver blk_driver;

/* The n-th disk, NULL past the last. */
struct blk *blk_at(uint64_t index);

/* Makes it usable again after a reset: 0 or -ABI_E*. */
int blk_up(struct blk *blk);

/* A request that is free, NULL if none is. */
struct blk_request *blk_take(struct blk *blk);
void blk_put(struct blk *blk, struct blk_request *request);

/*
 * Gives a request, whose mapping (if it has data) is true, to the device. -ABI_E2BIG: in
 * too many pieces. Not seen before virtq_kick.
 */
int blk_add(struct blk *blk, struct blk_request *request);

/* While requests are under way, progress must come within the policy's time: from now on. */
void blk_watch(struct blk *blk);

#endif
