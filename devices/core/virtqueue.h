/*
 * Split virtqueues, the device's side (virtio 1.2, 2.7): descriptors, chains, indirect
 * tables, event index. Descriptors are copied once and the copy is validated; every
 * loop is bounded by the queue's size.
 *
 * All functions need the lock of the queue's dma handle (dma.h).
 */
#ifndef STRATA_CORE_VIRTQUEUE_H
#define STRATA_CORE_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/iommu/dma.h"

#define VIRTQUEUE_SIZE_MAX 256

/* What the guest can see or has set: all there is to save. */
struct virtqueue_state {
    uint16_t size; /* a power of two, at most size_max */
    bool ready;
    uint64_t descriptors, driver, device; /* addresses: descriptor table, available, used ring */
    uint16_t next_available;              /* index of the next chain to take */
    uint16_t next_used;                   /* index of the next used element */
    uint16_t signalled_used;              /* next_used when the driver was last notified */
    bool signalled;                       /* signalled_used means something */
};

struct virtqueue {
    struct virtqueue_state state;
    uint16_t size_max;
    bool event_index, indirect; /* negotiated */
    struct dma *dma;
    struct dma_window descriptor_window, driver_window, device_window;
    uint16_t available; /* the driver's index when it was last looked at */
    bool kicks_off;     /* virtqueue_want_kicks */
    const char *broken; /* what the driver did wrong; NULL: nothing */
    uint64_t popped, pushed;
};

struct virtqueue_segment {
    uint64_t iova;
    uint32_t len; /* not 0 */
};

/* One request: its readable segments, then its writable ones (2.7.4.2). */
struct virtqueue_chain {
    uint16_t head;
    uint16_t nreadable, nwritable;
    uint64_t readable_bytes, writable_bytes;
    struct virtqueue_segment segments[VIRTQUEUE_SIZE_MAX];
};

void virtqueue_init(struct virtqueue *queue, struct dma *dma, uint16_t size_max);
/* As after a device reset. */
void virtqueue_reset(struct virtqueue *queue);

/*
 * Makes the queue usable with what its state says: 0, or -EINVAL (size not a power of
 * two or too large, a misaligned or wrapping part).
 */
int virtqueue_enable(struct virtqueue *queue);

/*
 * Takes the next chain: 1; 0 if there is none; or -EINVAL, -EFAULT, when the queue is
 * broken (queue->broken says how) and stays so until the reset: the caller sets
 * DEVICE_NEEDS_RESET. A queue that is not ready has none.
 */
int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain);

/*
 * Takes the chain that begins at this descriptor, once more: before the state of the queue was
 * saved it had been taken, and was not handed back. 0, or as virtqueue_pop; -EINVAL where the
 * queue is not ready.
 */
int virtqueue_take(struct virtqueue *queue, uint16_t head, struct virtqueue_chain *chain);

/* Hands a chain back with the number of bytes written to it. 0, or as virtqueue_pop. */
int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written);

/*
 * Gives the last `count` chains that were taken, none of them handed back, to the queue
 * again: the next virtqueue_pop finds the first of them.
 */
void virtqueue_unpop(struct virtqueue *queue, uint16_t count);

struct virtqueue_used {
    uint16_t head;
    uint32_t written;
};

/* Hands chains back all at once: a driver that sees one of them sees all. As virtqueue_push. */
int virtqueue_push_all(struct virtqueue *queue, const struct virtqueue_used *used, uint16_t count);

/* Whether the driver wants to be notified of what was pushed since the last time. */
bool virtqueue_should_notify(struct virtqueue *queue);

/*
 * Whether the driver need kick (on, as at first) or not. After switching on, look again
 * for chains that came just before.
 */
void virtqueue_want_kicks(struct virtqueue *queue, bool on);

/*
 * Copies from the readable, or to the writable, part of a chain from byte `offset` of it
 * on. The number of bytes, less than len where the chain ends; -EFAULT.
 */
int64_t virtqueue_read(struct virtqueue *queue, const struct virtqueue_chain *chain,
                       uint64_t offset, void *to, size_t len);
int64_t virtqueue_write(struct virtqueue *queue, const struct virtqueue_chain *chain,
                        uint64_t offset, const void *from, size_t len);

#endif
