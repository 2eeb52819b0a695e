/*
 * virtio-blk (virtio 1.2, 5.2): one queue, reads, writes, flush, discard, write zeroes.
 *
 * Data moves between the store and the guest's memory without a copy: a request is a DMA
 * transfer over exactly its data segments, ended before its used element is there. A
 * request that fails, or whose memory may not be reached, has status IOERR and costs the
 * guest nothing but that; errors of the host's file reach it the same way.
 */
#ifndef STRATA_VIRTIO_BLK_H
#define STRATA_VIRTIO_BLK_H

#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/block.h"
#include "devices/backend/file.h"
#include "devices/core/virtio_device.h"
#include "devices/iommu/dma.h"

#define VIRTIO_BLK_QUEUE_MAX    128
#define VIRTIO_BLK_SEGMENTS_MAX (VIRTIO_BLK_QUEUE_MAX - 2)
#define VIRTIO_BLK_CONFIG_BYTES 60 /* up to and with write zeroes */

struct blk_request;
struct vm;

/* How a request is about to be given back to the driver. */
struct virtio_blk_completion {
    uint16_t head;
    uint8_t status;
    uint32_t written; /* bytes, the status included */
    uint64_t status_iova;
    const struct virtio_blk_outhdr *header;
    const struct dma_range *data; /* its data segments, which the device still may reach */
    unsigned ndata;
    bool taken; /* set by the hook: it gives the request back in its own way, or never */
};

/* What the guest can see or has set, beside the transport's and the queue's state. */
struct virtio_blk_state {
    uint64_t capacity; /* sectors */
    uint8_t writeback;
};

/*
 * Requests that were taken from the queue and not given back, by the head of their chain: to be
 * saved with the state, as a pause may hold some.
 */
struct virtio_blk_requests {
    uint16_t count;
    uint16_t heads[VIRTIO_BLK_QUEUE_MAX];
};

struct virtio_blk_counts {
    uint64_t reads, writes, flushes, others; /* given back, whatever came of them */
    uint64_t read_bytes, write_bytes;
    uint64_t failed;      /* status not OK */
    uint64_t unreachable; /* of these: data segments the device may not reach */
    /* Of a disk with a latency: what the store's part of a request took at least, at most. */
    uint64_t shortest_ns, longest_ns; /* 0: there was none */
};

struct virtio_blk {
    struct virtio_device device;
    struct virtio_class class;
    struct virtio_blk_state state;
    struct virtio_blk_counts counts;
    struct dma *dma;
    struct block *block;
    struct file_info file; /* of virtio_blk_create; zero over another store */
    uint64_t latency_ns;   /* and what it was told; 0: as fast as the file */
    char id[VIRTIO_BLK_ID_BYTES];

    struct blk_request *requests; /* as many as the queue is long */
    unsigned used_requests;       /* of these: used at least once */
    struct blk_request *unused;   /* of the used ones */
    unsigned under_way;
    unsigned resetting;   /* > 0: nothing is taken from the queue or given back */
    uint64_t resets;      /* of the device or its queue */
    bool no_requests;     /* all requests were under way */
    bool used;            /* something was given back since the driver was told */
    pthread_cond_t ended; /* with the dma handle's lock: under_way fell to 0 */

    /* The one place where a hostile device (devices/hostile/blk.h) comes in. NULL: honest. */
    void (*before_push)(void *hostile, struct virtio_blk_completion *completion);
    void *hostile; /* freed with the device */
};

struct blk_config {
    struct vm *vm;   /* whose pauses its threads obey; NULL: tests */
    struct dma *dma; /* outlives the device */
    const char *path;
    bool read_only;
    uint64_t latency_ns; /* of each request, at least; 0: the file's own (delay.h) */
};

/* A disk over a file: 0; or -errno and one line for the user (see file_open). */
int virtio_blk_create(struct virtio_blk **blk, const struct blk_config *config, char *error,
                      size_t error_bytes);

/*
 * The same over any store, made for VIRTIO_BLK_QUEUE_MAX requests; on success it owns it. 0 or
 * -ENOMEM.
 */
int virtio_blk_create_on(struct virtio_blk **blk, struct dma *dma, struct block *block,
                         const char *id);

/* With the lock of the dma handle, while the VM is paused. */
void virtio_blk_save_requests(const struct virtio_blk *blk, struct virtio_blk_requests *requests);

/*
 * Carries them out, from their beginning, once the device has been restored. With the lock. 0, or
 * -EINVAL for requests that cannot be, after which the device needs a reset.
 */
int virtio_blk_restore_requests(struct virtio_blk *blk, const struct virtio_blk_requests *requests);

/* After the VM has ended. Waits for what is under way. */
void virtio_blk_destroy(struct virtio_blk *blk);

#endif
