/*
 * Requests to the IOMMU as they are collected. Inline, because mapping and unmapping are
 * part of every request to a device, and each instruction of the kernel costs a microsecond
 * on a host that interprets it.
 *
 * The device reads a request where it lies: in the batch's own memory, or in that of whoever
 * has it ready from one time to the next (struct dma_mapping). The status of each comes
 * back by its slot in the queue.
 */
#ifndef STRATA_KERNEL_DMA_VIOMMU_BATCH_H
#define STRATA_KERNEL_DMA_VIOMMU_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/arch/layout.h"
#include "guest/kernel/drivers/virtio.h"

#define VIOMMU_REQUESTS (VIRTQ_SIZE_MAX / 2) /* each takes two descriptors */

struct viommu_request {
    /* As the device reads it (virtio 1.2, 5.13.6). */
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
    /* Ours: set where it goes wrong; NULL: nobody asks. It lives until the batch has run. */
    bool *failed;
};

/* Lengths, and what the status is before the answer. */
#define VIOMMU_ATTACH_BYTES 20
#define VIOMMU_MAP_BYTES    36
#define VIOMMU_UNMAP_BYTES  28
#define VIOMMU_UNANSWERED   0xffffffff

enum viommu_type {
    VIOMMU_ATTACH = 1,
    VIOMMU_DETACH = 2,
    VIOMMU_MAP = 3,
    VIOMMU_UNMAP = 4,
    VIOMMU_PROBE = 5,
};

extern struct viommu_batch {
    volatile struct virtq_descriptor (*descriptors)[2]; /* of each slot; slots go round */
    uint32_t mask;                                      /* slots - 1; they are a power of two */
    uint32_t next;                                      /* request, counted from the start */
    uint32_t ran;                      /* those before this one; the others are collected */
    uint32_t full;                     /* what `next` is when all slots are in use */
    int error;                         /* 0 or -ABI_EIO, since the last viommu_run */
    volatile uint16_t *index;          /* in the available ring; NULL: see viommu_post */
    const volatile uint16_t *answered; /* in the used ring: the device's index */
    struct viommu_request *own;        /* one for each slot */
    /*
     * What the device writes, by slot: the status and three reserved bytes. UNANSWERED
     * while a slot is not in use; the last one is always.
     */
    uint32_t tail[VIOMMU_REQUESTS + 1];
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
    return __builtin_expect(viommu_batch.next == viommu_batch.full, 0);
}

/* So many more of them have run. */
static inline void viommu_ran(uint32_t count)
{
    viommu_batch.ran += count;
    viommu_batch.full += count;
}

/* Before each of the following: a full batch runs now. */
static inline void viommu_room(void)
{
    if (viommu_is_full())
        viommu_make_room();
}

/*
 * A request that is ready, in the direct map, and stays as it is until the batch has run.
 * The device sees it when the batch is posted or run.
 */
static inline void viommu_add(const struct viommu_request *request, uint32_t bytes)
{
    volatile struct virtq_descriptor
        *descriptor = viommu_batch.descriptors[viommu_slot(viommu_batch.next++)];

    descriptor->address = (uint64_t)request - DIRECT_MAP;
    descriptor->bytes = bytes;
}

/* What was added in this slot. */
static inline struct viommu_request *viommu_added(uint64_t slot)
{
    return (struct viommu_request *)(viommu_batch.descriptors[slot][0].address + DIRECT_MAP);
}

/* One that is not, in the batch's own memory: to be filled in. */
static inline struct viommu_request *viommu_collect(enum viommu_type type, uint32_t domain,
                                                    uint32_t bytes, bool *failed)
{
    struct viommu_request *request = &viommu_batch.own[viommu_slot(viommu_batch.next)];

    viommu_add(request, bytes);
    request->type = type;
    request->domain = domain;
    request->failed = failed;
    return request;
}

static inline void viommu_map(uint32_t domain, uint64_t first, uint64_t last, uint64_t gpa,
                              uint32_t rights, bool *failed)
{
    struct viommu_request *request = viommu_collect(VIOMMU_MAP, domain, VIOMMU_MAP_BYTES, failed);

    request->map.first = first;
    request->map.last = last;
    request->map.gpa = gpa;
    request->map.flags = rights;
}

static inline void viommu_unmap(uint32_t domain, uint64_t first, uint64_t last, bool *failed)
{
    struct viommu_request *request = viommu_collect(VIOMMU_UNMAP, domain, VIOMMU_UNMAP_BYTES,
                                                    failed);

    request->unmap.first = first;
    request->unmap.last = last;
    request->unmap.reserved = 0;
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

/* Whether it sees all that was collected already. */
static inline bool viommu_posted(void)
{
    return viommu_batch.index && *viommu_batch.index == (uint16_t)viommu_batch.next;
}

/*
 * The common end of a batch: posted, all of it answered, and answered well; that is all
 * there is to do then. False: viommu_run finds out. Only after something was collected.
 */
static inline bool viommu_went_well(void)
{
    struct viommu_batch *batch = &viommu_batch;
    uint32_t next = batch->next, i = batch->ran, *tail = &batch->tail[viommu_slot(i)];
    uint64_t pair;

    /*
     * An error (below 0) makes it an answer to fewer than there are: it was one before, in
     * a batch that ran because it was full. Pairs with the device's release of the index:
     * statuses are seen after it.
     */
    if ((uint16_t)(__atomic_load_n(batch->answered, __ATOMIC_ACQUIRE) + batch->error) !=
        (uint16_t)next)
        return false;
    /* Mostly it is two: one mapping went, one came. The last slot and the first are no pair. */
    __builtin_memcpy(&pair, tail, sizeof(pair));
    if (__builtin_expect(i + 2 == next && !pair, true)) {
        __builtin_memset(tail, 0xff, sizeof(pair));
        viommu_ran(2);
        return true;
    }
    for (; i != next; i++) {
        if (batch->tail[viommu_slot(i)])
            return false;
    }
    while (i-- != batch->ran)
        batch->tail[viommu_slot(i)] = VIOMMU_UNANSWERED;
    viommu_ran(viommu_collected());
    return true;
}

#endif
