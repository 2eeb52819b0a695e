/*
 * Requests to the IOMMU as they are collected, one slot each. Inline, because mapping and
 * unmapping are part of every request to a device, and each instruction of the kernel costs
 * a microsecond on a host that interprets it.
 */
#ifndef STRATA_KERNEL_VIOMMU_BATCH_H
#define STRATA_KERNEL_VIOMMU_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/virtio.h"

#define VIOMMU_REQUESTS (VIRTQ_SIZE_MAX / 2) /* each takes two descriptors */

/* As the device reads it (virtio 1.2, 5.13.6); it writes the status. */
struct viommu_request {
    uint32_t type; /* and three reserved bytes */
    uint32_t domain;
    union {
        struct {
            uint32_t endpoint, flags, reserved;
        } __attribute__((packed)) attach;
        struct {
            uint64_t first, last, gpa;
            uint32_t flags;
        } __attribute__((packed)) map;
        struct {
            uint64_t first, last;
            uint32_t reserved;
        } __attribute__((packed)) unmap;
    };
    /* 60: */
    uint8_t room[24];
    uint8_t status, tail[3];
} __attribute__((packed, aligned(4)));

/* Lengths without the tail, and what the status is before the answer. */
#define VIOMMU_ATTACH_BYTES 20
#define VIOMMU_MAP_BYTES    36
#define VIOMMU_UNMAP_BYTES  28
#define VIOMMU_UNANSWERED   0xff

enum viommu_type {
    VIOMMU_ATTACH = 1,
    VIOMMU_DETACH = 2,
    VIOMMU_MAP = 3,
    VIOMMU_UNMAP = 4,
    VIOMMU_PROBE = 5,
};

extern struct viommu_batch {
    struct viommu_request *request;                     /* slots; they go round */
    volatile struct virtq_descriptor (*descriptors)[2]; /* of each slot */
    uint32_t mask;                                      /* slots - 1; they are a power of two */
    uint32_t next;                                      /* request, counted from the start */
    uint32_t ran;                      /* those before this one; the others are collected */
    int error;                         /* 0 or -ABI_EIO, since the last viommu_run */
    volatile uint16_t *index;          /* in the available ring; NULL: see viommu_post */
    const volatile uint16_t *answered; /* in the used ring: the device's index */
    bool *failed[VIOMMU_REQUESTS];     /* of each slot; set where it goes wrong */
} viommu_batch;

/* Runs what was collected; viommu_run tells later how it went. */
void viommu_make_room(void);

static inline uint64_t viommu_slot(uint32_t request)
{
    return request & viommu_batch.mask;
}

/* How many wait to be run. */
static inline uint32_t viommu_collected(void)
{
    return viommu_batch.next - viommu_batch.ran;
}

static inline bool viommu_is_full(void)
{
    return __builtin_expect(viommu_collected() > viommu_batch.mask, 0);
}

/* Before each of the following: a full batch runs now. */
static inline void viommu_room(void)
{
    if (viommu_is_full())
        viommu_make_room();
}

/* The next request; the device sees it when the batch is posted or run. */
static inline struct viommu_request *viommu_collect(enum viommu_type type, uint32_t domain,
                                                    uint32_t bytes, bool *failed)
{
    struct viommu_batch *batch = &viommu_batch;
    uint64_t slot = viommu_slot(batch->next);
    struct viommu_request *request = &batch->request[slot];

    batch->next++;
    batch->descriptors[slot][0].bytes = bytes;
    batch->failed[slot] = failed;
    request->type = type;
    request->domain = domain;
    request->status = VIOMMU_UNANSWERED;
    return request;
}

/* *failed (may be NULL) is set if it goes wrong; it must live until the batch has run. */
static inline struct viommu_request *viommu_map(uint32_t domain, uint64_t first, uint64_t last,
                                                uint64_t gpa, uint32_t rights, bool *failed)
{
    struct viommu_request *request = viommu_collect(VIOMMU_MAP, domain, VIOMMU_MAP_BYTES, failed);

    request->map.first = first;
    request->map.last = last;
    request->map.gpa = gpa;
    request->map.flags = rights;
    return request;
}

static inline struct viommu_request *viommu_unmap(uint32_t domain, uint64_t first, uint64_t last,
                                                  bool *failed)
{
    struct viommu_request *request = viommu_collect(VIOMMU_UNMAP, domain, VIOMMU_UNMAP_BYTES,
                                                    failed);

    request->unmap.first = first;
    request->unmap.last = last;
    request->unmap.reserved = 0;
    return request;
}

/*
 * Lets the IOMMU see what was collected, without waiting. True: it is carried out before
 * the next notification of a device behind it (ABI_FDT_IOMMU_PROMPT), and viommu_run tells
 * how it went. False: it may not be, viommu_run has to come first.
 */
static inline bool viommu_post(void)
{
    if (!viommu_batch.index)
        return false;
    /* Pairs with the device's read of the index: requests are seen before it (2.7.13.3). */
    __atomic_store_n(viommu_batch.index, (uint16_t)viommu_batch.next, __ATOMIC_RELEASE);
    return true;
}

/*
 * The common end of a batch: posted, all of it answered, and answered well; that is all
 * there is to do then. False: viommu_run finds out. Only after something was collected.
 */
static inline bool viommu_went_well(void)
{
    struct viommu_batch *batch = &viommu_batch;
    uint32_t i = batch->next, first = batch->ran;

    /* Pairs with the device's release of the index: statuses are seen after it. */
    if (__atomic_load_n(batch->answered, __ATOMIC_ACQUIRE) != (uint16_t)i || batch->error)
        return false;
    do {
        if (batch->request[viommu_slot(--i)].status)
            return false;
    } while (i != first);
    batch->ran = batch->next;
    return true;
}

#endif
