/*
 * What dma.c, the IOMMU and dma_request.c share; devices see dma.h only.
 */
#ifndef STRATA_IOMMU_DMA_SEGMENT_H
#define STRATA_IOMMU_DMA_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/iommu/dma.h"

/* Where a piece of a request leads. */
struct dma_segment {
    uint64_t gpa;
    uint64_t len;    /* bytes from iova on that lie there, at least 1, up to a page's end */
    void *host;      /* NULL: not RAM (a device's registers, or nothing) */
    bool message;    /* the MSI window: an interrupt, if it is a write */
    bool translated; /* by the IOMMU; false: the address was taken for guest-physical */
};

/*
 * The first piece of a request as a hostile device may put it, up to the end of the page;
 * with the dma handle's lock. `ats`: the request says that it is translated already. 0; or
 * -EFAULT, and *fault is what was recorded.
 *
 * Attached and not bypassed, an endpoint gets to RAM, to a device's registers only where
 * IOMMU_CHECK_PEER is disabled and they are mapped, and to the message window: dma_may_signal is
 * then the caller's to ask. A request with `ats` is refused (IOMMU_FAULT_CLAIM) unless
 * IOMMU_CHECK_TRANSLATED is disabled. Where the address is taken as it is, it leads anywhere.
 */
int dma_resolve(struct dma *dma, uint64_t iova, enum dma_direction direction, bool ats,
                struct dma_segment *span, struct iommu_fault *fault);

/* Whether this endpoint may signal a vector: always without an IOMMU. With the lock. */
bool dma_may_signal(const struct dma *dma, uint8_t vector);

/* Windows (struct dma_window) that overlap [first, last] are not good any more. With the lock. */
void dma_forget(struct dma *dma, uint64_t first, uint64_t last);

/* Records a fault of this endpoint, whose id is filled in. With the lock. */
void dma_fault(struct dma *dma, struct iommu_fault *fault);

/*
 * Whose request the IOMMU takes it for that claims to come from `requester`: the dma handle's
 * own unless IOMMU_CHECK_REQUESTER is disabled; then that endpoint's dma handle (take its lock
 * instead), or NULL if there is none of that id. Without a lock.
 */
struct dma *dma_of_requester(struct dma *dma, uint32_t requester);

/* Whether the dma handle's unit makes a check; without one, none is made. */
bool dma_checks(const struct dma *dma, enum iommu_check check);

/* Host memory of gpa, and how many bytes of it follow; NULL: not RAM. */
void *dma_host(const struct memory *memory, uint64_t gpa, uint64_t *available);

/* Whether all, or any, of [gpa, gpa + len) is RAM; end: the first address after all RAM. */
bool dma_all_ram(const struct memory *memory, uint64_t gpa, uint64_t len);
bool dma_any_ram(const struct memory *memory, uint64_t gpa, uint64_t len);
uint64_t dma_ram_end(const struct memory *memory);

#endif
