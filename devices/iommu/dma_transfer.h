/*
 * Transfers: what outlasts the lock of a dma handle, and how the IOMMU waits for it.
 */
#ifndef STRATA_IOMMU_DMA_TRANSFER_H
#define STRATA_IOMMU_DMA_TRANSFER_H

#include <stdint.h>
#include <sys/uio.h>

#include "devices/iommu/dma.h"

/*
 * A transfer outlasts the lock: from begin to end its memory stays as it was translated,
 * because an unmap waits for it. The device's side of that: end it in bounded time,
 * and never wait in a device's notification for the guest to do something.
 * `cancel` (NULL: none) asks it to end soon; called from any thread, maybe more than
 * once, without the device's lock and with transfers_lock held: it may only note and wake.
 */
struct dma_transfer {
    struct dma_transfer *next, **link;
    struct dma *dma;
    const struct dma_range *ranges; /* the caller's, kept until the end */
    unsigned nranges;
    void (*cancel)(struct dma_transfer *transfer);
    uint64_t drains; /* of the dma handle when it began */
};

/*
 * Translates all ranges, in order, into at most `max` pieces and begins the transfer.
 * The number of pieces (at least one for each range), or an error of dma_translate, when
 * nothing has begun.
 */
int dma_transfer_begin(struct dma *dma, struct dma_transfer *transfer,
                       const struct dma_range *ranges, unsigned nranges, struct iovec *pieces,
                       unsigned max);

/* Its memory is not touched any more. From any thread, with or without the lock. */
void dma_transfer_end(struct dma_transfer *transfer);

/*
 * For the IOMMU: cancels, then waits for, every transfer that touches [first, last].
 * Without the lock.
 */
void dma_drain(struct dma *dma, uint64_t first, uint64_t last);

#endif
