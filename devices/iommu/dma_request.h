/*
 * A request as a device puts it on the bus, with the fields that a hostile one forges.
 * Honest devices use dma.h; this is the road of the DMA probe and of attacks.
 *
 * A request that is not translated goes where a bus would take it: to RAM, to the MSI
 * window (an interrupt) or to another device's registers. A translated one reaches RAM
 * only, and messages through the MSI window with a vector that is allowed.
 */
#ifndef STRATA_IOMMU_DMA_REQUEST_H
#define STRATA_IOMMU_DMA_REQUEST_H

#include "devices/iommu/dma.h"

struct dma_request {
    uint64_t iova;
    uint64_t len;
    enum dma_direction direction;
    void *data;         /* len bytes: read into, or written from */
    bool translated;    /* says that iova is already guest-physical (PCIe ATS) */
    bool claims;        /* carries a requester id of its own */
    uint32_t requester; /* that id */
};

enum dma_target {
    DMA_NOWHERE,
    DMA_RAM,
    DMA_MESSAGE, /* an interrupt was signalled */
    DMA_PEER,    /* another device's registers */
};

struct dma_outcome {
    int error;              /* 0 or -errno: what the device sees */
    uint64_t done;          /* bytes that did get through, less than len on an error */
    enum dma_target target; /* of the last byte that did */
    bool faulted;
    struct iommu_fault fault; /* the record, if it faulted */
};

/*
 * Carries out one request, page by page as a bus does: what came through before a fault
 * stays done. Without any device's lock held: it takes the door's, and for peers none.
 */
void dma_perform(struct dma *dma, const struct dma_request *request, struct dma_outcome *outcome);

#endif
