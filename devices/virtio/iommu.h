/*
 * The virtio-iommu device (virtio 1.2, 5.13): how a guest programs the IOMMU. It turns
 * requests into calls of iommu.h and fault records into events; what is attached and
 * mapped is the IOMMU's alone.
 *
 * Its own dma handle is not translated. It is locked while a request runs, and a request may
 * wait for transfers of other devices; so those must not wait for this device. A fault is
 * therefore delivered by whoever gets the lock: the thread that faulted if it is free,
 * else the one that holds it, once it has given it up.
 */
#ifndef STRATA_VIRTIO_IOMMU_H
#define STRATA_VIRTIO_IOMMU_H

#include <stdatomic.h>
#include <stdint.h>

#include "devices/core/virtio_device.h"
#include "devices/iommu/iommu.h"

#define VIRTIO_IOMMU_REQUESTS 0 /* queues (5.13.2) */
#define VIRTIO_IOMMU_EVENTS   1

#define VIRTIO_IOMMU_STATUSES 9 /* VIRTIO_IOMMU_S_OK to _NOMEM (5.13.6) */

/* What a driver did and was told; one that makes no mistake has answered[0] and events only. */
struct virtio_iommu_counts {
    uint64_t answered[VIRTIO_IOMMU_STATUSES]; /* requests, by status */
    uint64_t unanswered;                      /* unknown, or no room for a status */
    uint64_t careless;      /* requests with reserved bytes that are ignored, but should be 0 */
    uint64_t events;        /* fault records handed over */
    uint64_t short_buffers; /* for events, too small for a record */
};

/* What the guest can see or has set, beside what the IOMMU knows. */
struct virtio_iommu_state {
    bool has_fault; /* `fault` left the IOMMU's queue, but found no buffer yet */
    struct iommu_fault fault;
};

struct virtio_iommu {
    struct virtio_device device;
    struct iommu *iommu;
    /* A record waits for a buffer. Set without the lock. */
    atomic_bool events_due;
    /* The rest is under the lock of the dma handle. */
    struct virtio_iommu_state state;
    struct virtio_iommu_counts counts;
    struct virtqueue_chain chain; /* the one in work */
};

struct viommu_config {
    /* Untranslated and of this device alone, which takes its `unlocked`. */
    struct dma *dma;
    struct iommu *iommu;
};

/* All that the configuration says outlives the device. 0 or -ENOMEM. Only while no vCPU runs. */
int virtio_iommu_create(struct virtio_iommu **viommu, const struct viommu_config *config);

/* When no other device can fault any more. */
void virtio_iommu_destroy(struct virtio_iommu *viommu);

/* A consistent copy; takes the lock. */
void virtio_iommu_count(struct virtio_iommu *viommu, struct virtio_iommu_counts *counts);

#endif
