/*
 * The driver's side of virtio-mmio and of split virtqueues (virtio 1.2, 4.2 and 2.7), as
 * tests need it: straight-line, over memory that the test can write, and willing to break
 * every rule. Addresses are those the device uses; `ram` is where address 0 lies.
 */
#ifndef STRATA_TESTS_RING_H
#define STRATA_TESTS_RING_H

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "devices/core/virtio_mmio.h"

struct ring {
    struct virtio_device *device;
    unsigned queue;
    uint8_t *ram;
    uint16_t size;
    uint64_t descriptors, available, used; /* addresses of the three parts */
    uint16_t free;                         /* next descriptor; they are used in a circle */
    uint16_t next_available, next_used;
};

/* One descriptor's worth of a chain. */
struct ring_segment {
    uint64_t iova;
    uint32_t len;
    bool writable;
};

/* Bytes that a ring of `size` takes from `base` on; its parts follow each other. */
static inline uint64_t ring_bytes(uint16_t size)
{
    return (uint64_t)size * 16 + (uint64_t)(6 + 2 * size + 3) / 4 * 4 + 6 + 8ull * size;
}

#define RING_TRANSPORTS 8

/* The transport of a device, which gets one on no bus where it has none. */
static inline struct virtio_mmio *ring_mmio(struct virtio_device *device)
{
    static struct virtio_mmio transports[RING_TRANSPORTS];
    static unsigned next;
    unsigned i = 0;

    if (device->transport_owner)
        return device->transport_owner;
    /* A device that was destroyed may have been where this one is. */
    while (i < RING_TRANSPORTS && transports[i].device != device)
        i++;
    if (i == RING_TRANSPORTS)
        i = next++ % RING_TRANSPORTS;
    virtio_mmio_create(&transports[i], device, NULL, 0, 0);
    return &transports[i];
}

static inline uint64_t ring_register(struct virtio_device *device, uint32_t offset, unsigned size)
{
    return ring_mmio(device)->region.read(ring_mmio(device), NULL, offset, size);
}

/* A write of any size, and what comes after an exit for it. */
static inline void ring_write(struct virtio_device *device, uint32_t offset, unsigned size,
                              uint64_t value)
{
    struct virtio_mmio *mmio = ring_mmio(device);

    mmio->region.write(mmio, NULL, offset, size, value);
    mmio->region.after_write(mmio, NULL);
}

static inline void ring_set_register(struct virtio_device *device, uint32_t offset, uint32_t value)
{
    ring_write(device, offset, 4, value);
}

static inline uint32_t ring_status(struct virtio_device *device)
{
    return (uint32_t)ring_register(device, VIRTIO_MMIO_STATUS, 4);
}

static inline uint64_t ring_features(struct virtio_device *device)
{
    uint64_t features;

    ring_set_register(device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    features = ring_register(device, VIRTIO_MMIO_DEVICE_FEATURES, 4) << 32;
    ring_set_register(device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    return features | ring_register(device, VIRTIO_MMIO_DEVICE_FEATURES, 4);
}

/* Resets the device and negotiates: whether it took these features (3.1.1, steps 1 to 6). */
static inline bool ring_negotiate(struct virtio_device *device, uint64_t features)
{
    ring_set_register(device, VIRTIO_MMIO_STATUS, 0);
    ring_set_register(device, VIRTIO_MMIO_STATUS, VIRTIO_ACKNOWLEDGE);
    ring_set_register(device, VIRTIO_MMIO_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    for (unsigned i = 0; i < 2; i++) {
        ring_set_register(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        ring_set_register(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
    }
    ring_set_register(device, VIRTIO_MMIO_STATUS,
                      VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    return ring_status(device) & VIRTIO_FEATURES_OK;
}

static inline void ring_driver_ok(struct virtio_device *device)
{
    ring_set_register(device, VIRTIO_MMIO_STATUS, ring_status(device) | VIRTIO_DRIVER_OK);
}

/* Lays an empty ring at `base` (16-byte aligned) and makes it ready (4.2.3.2). */
static inline void ring_setup(struct ring *ring, struct virtio_device *device, unsigned queue,
                              uint8_t *ram, uint64_t base, uint16_t size)
{
    *ring = (struct ring){ .device = device, .queue = queue, .ram = ram, .size = size };
    ring->descriptors = base;
    ring->available = base + 16ull * size;
    ring->used = (ring->available + 6 + 2ull * size + 3) / 4 * 4;
    memset(ram + base, 0, ring_bytes(size));
    ring_set_register(device, VIRTIO_MMIO_QUEUE_SEL, queue);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_NUM, size);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)ring->descriptors);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(ring->descriptors >> 32));
    ring_set_register(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)ring->available);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(ring->available >> 32));
    ring_set_register(device, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)ring->used);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(ring->used >> 32));
    ring_set_register(device, VIRTIO_MMIO_QUEUE_READY, 1);
}

static inline struct vring_desc *ring_descriptor(struct ring *ring, uint16_t index)
{
    return (struct vring_desc *)(void *)(ring->ram + ring->descriptors) + index;
}

/* Makes the chain that starts at descriptor `head` available. */
static inline void ring_offer(struct ring *ring, uint16_t head)
{
    struct vring_avail *available = (void *)(ring->ram + ring->available);

    available->ring[ring->next_available++ % ring->size] = head;
    __atomic_store_n(&available->idx, ring->next_available, __ATOMIC_RELEASE);
}

/* Adds a chain of n segments (1 to the ring's size) and returns its head; no kick. */
static inline uint16_t ring_add(struct ring *ring, const struct ring_segment *segments, unsigned n)
{
    uint16_t head = ring->free;

    for (unsigned i = 0; i < n; i++) {
        uint16_t next = (uint16_t)((ring->free + 1) % ring->size);
        uint16_t flags = (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) |
                                    (segments[i].writable ? VRING_DESC_F_WRITE : 0));

        *ring_descriptor(ring, ring->free) = (struct vring_desc){
            .addr = segments[i].iova, .len = segments[i].len, .flags = flags, .next = next
        };
        ring->free = next;
    }
    ring_offer(ring, head);
    return head;
}

static inline void ring_kick(struct ring *ring)
{
    ring_set_register(ring->device, VIRTIO_MMIO_QUEUE_NOTIFY, ring->queue);
}

/* Takes the next used element: false if there is none. */
static inline bool ring_take(struct ring *ring, uint32_t *head, uint32_t *written)
{
    const struct vring_used *used = (const void *)(ring->ram + ring->used);
    const struct vring_used_elem *element = &used->ring[ring->next_used % ring->size];

    if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == ring->next_used)
        return false;
    *head = element->id;
    *written = element->len;
    ring->next_used++;
    return true;
}

#endif
