/*
 * What dma_request.c asks the door and the IOMMU behind it, piece by piece. For this
 * folder only: devices use dma.h.
 */
#ifndef STRATA_IOMMU_ROUTE_H
#define STRATA_IOMMU_ROUTE_H

#include "devices/iommu/dma.h"

/* What an endpoint's addresses are. */
enum dma_reach {
    DMA_REACH_NOTHING, /* it is attached to no domain */
    DMA_REACH_MAPPED,  /* translated */
    DMA_REACH_ALL,     /* guest-physical: no IOMMU, a bypass domain, or unattached with bypass on */
};

/* With the door's lock, as all of these but dma_of. */
enum dma_reach dma_reach(const struct dma *dma);

/*
 * Where [iova, iova + len), which lies in one 4K page, is in guest-physical memory, for an
 * endpoint that is translated: 0; or -EFAULT with the fault recorded and in *fault.
 */
int dma_route(struct dma *dma, uint64_t iova, uint64_t len, enum dma_direction direction,
              uint64_t *gpa, struct iommu_fault *fault);

/* Records a fault that the IOMMU did not find by itself. Without an IOMMU: nothing. */
void dma_report(struct dma *dma, const struct iommu_fault *fault);

/* Whether the unit lacks a protection, IOMMU_WITHOUT_*; only with an IOMMU. */
bool dma_without(const struct dma *dma, uint32_t protection);

/* iommu_allow_vectors of this endpoint. */
bool dma_vector_allowed(const struct dma *dma, unsigned vector);

/* RAM at [gpa, gpa + len), whoever may reach it; NULL: none, or not in one piece. */
void *dma_physical(const struct dma *dma, uint64_t gpa, uint64_t len);

/* The door of an endpoint by its id; NULL: there is none. */
struct dma *dma_of(const struct iommu *iommu, uint32_t endpoint);

#endif
