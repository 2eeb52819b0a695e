/*
 * virtio, the driver's side: the MMIO transport (virtio 1.2, 4.2) and split virtqueues
 * (2.7), of which each request takes one descriptor, direct or to an indirect table.
 *
 * The device is not believed. What a request is (its token, how much of it is writable)
 * is kept in the kernel's memory; from the used ring an id and a length are copied once,
 * then checked against that. The rings lie on two pages: one that the device may only
 * read, one that it may only write.
 */
#ifndef STRATA_KERNEL_DRIVERS_VIRTIO_H
#define STRATA_KERNEL_DRIVERS_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/kernel/drivers/device.h"

#define VIRTIO_ID_BLK            2
#define VIRTIO_ID_CONSOLE        3
#define VIRTIO_ID_RNG            4
#define VIRTIO_ID_BALLOON        5
#define VIRTIO_ID_IOMMU          23

#define VIRTIO_F_INDIRECT        (1ull << 28)
#define VIRTIO_F_EVENT_IDX       (1ull << 29)
#define VIRTIO_F_VERSION_1       (1ull << 32)
#define VIRTIO_F_ACCESS_PLATFORM (1ull << 33)

#define VIRTIO_CONFIG            0x100 /* register offset of the device-specific configuration */

/* The device's id; 0 if there is none, or no version 2 device. */
uint32_t virtio_identify(const struct device *device);

/*
 * Resets it, and agrees on those of `wanted` that it offers; VERSION_1 and, behind an
 * IOMMU, ACCESS_PLATFORM are a must. 0 or -ABI_E*.
 */
int virtio_negotiate(struct device *device, uint64_t wanted, uint64_t *features);

/* After the queues are set up. */
void virtio_ready(struct device *device);

/* Status 0, and waits until it reads so. */
void virtio_reset(struct device *device);

/* Reads and clears why it interrupted: bit 0 used buffers, bit 1 configuration. */
uint32_t virtio_why(struct device *device);

/* DEVICE_NEEDS_RESET. */
bool virtio_is_broken(struct device *device);

uint64_t virtio_config(const struct device *device, uint32_t offset, unsigned bytes);

#define VIRTQ_SIZE_MAX 64

#define VIRTQ_NEXT     1
#define VIRTQ_WRITE    2
#define VIRTQ_INDIRECT 4

struct virtq_descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags, next;
};

struct virtq_used_element {
    uint32_t id, bytes;
};

/* One request under way, by the number of its descriptor. */
struct virtq_request {
    void *token; /* NULL: the descriptor is free */
    uint32_t writable;
};

struct virtq {
    struct device *device;
    uint16_t number, size;
    bool event_index;
    /* On the page that the device reads: */
    volatile struct virtq_descriptor *descriptors;
    volatile uint16_t *available; /* flags, index, ring[size], used_event */
    /* On the page that it writes: */
    volatile uint16_t *used; /* flags, index, ring[size], available_event */
    /* Where the device has them. */
    uint64_t read_page, write_page;

    uint16_t available_index, kicked_index, used_index;
    uint16_t under_way, nfree;
    uint16_t free[VIRTQ_SIZE_MAX];
    struct virtq_request request[VIRTQ_SIZE_MAX];
};

/*
 * Sets queue `number` up with at most `size` descriptors. The pages are kept from one
 * reset to the next. 0 or -ABI_E*.
 */
int virtq_setup(struct virtq *q, struct device *device, uint16_t number, uint16_t size,
                uint64_t features);

/*
 * A request of one descriptor: a buffer, or with VIRTQ_INDIRECT a table, at `address` for
 * the device; it may write `writable` bytes. Not seen before virtq_kick. -ABI_EBUSY when full.
 */
int virtq_add(struct virtq *q, uint64_t address, uint32_t bytes, uint16_t flags, uint32_t writable,
              void *token);

/* The device is idle and wants to hear of the next request: virtq_kick will notify it. */
bool virtq_will_notify(struct virtq *q);

/* Publishes what was added, and notifies the device if it wants that. */
void virtq_kick(struct virtq *q);

/*
 * Takes one completed request: 1 with its token and the bytes the device says it wrote;
 * 0 if there is none; -ABI_EPROTO when the device said something that cannot be: reset it.
 */
int virtq_pop(struct virtq *q, void **token, uint32_t *bytes);

/* Asks for an interrupt for the next completion: false if that has come already. */
bool virtq_arm(struct virtq *q);

/* For who polls: no interrupts. Only without VIRTIO_F_EVENT_IDX. */
void virtq_quiet(struct virtq *q);

/* Takes back one request that was under way, after a reset: its token, or NULL. */
void *virtq_take_back(struct virtq *q);

#endif
