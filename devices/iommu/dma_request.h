/*
 * A request as a device puts it on the bus, with the fields that a hostile one forges.
 * Honest devices use dma.h; this is the road of the DMA probe and of attacks.
 *
 * A request that is not translated goes where a bus would take it: to RAM, to the MSI
 * window (an interrupt, of any kind, if 4 aligned bytes are written) or to another device's
 * registers, in naturally aligned accesses of 1 to 8 bytes. Where nobody answers, reads
 * bring all ones, writes are dropped, and the rest is carried out. Addresses go from
 * 2^64 - 1 to 0 where there is no IOMMU to mind, or with IOMMU_CHECK_WRAP disabled; else that is
 * a fault and nothing is done.
 *
 * A translated one reaches RAM only, and through the MSI window with a message of an
 * allowed vector and plain delivery; all else is a fault, and ends the request.
 *
 * Where addresses are translated, that a request says it is so already is believed only
 * with IOMMU_CHECK_TRANSLATED disabled, and is a fault otherwise. The identity it claims is
 * believed only with IOMMU_CHECK_REQUESTER disabled; otherwise it has its dma handle's.
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
    /* 0, or what the device saw first: -EFAULT a fault, -ENXIO nobody there, -EINVAL no
       message, -EAGAIN nobody takes it. */
    int error;
    uint64_t done;          /* bytes that did get through, less than len on an error */
    enum dma_target target; /* of the last byte that did */
    bool faulted;
    struct iommu_fault fault; /* the record, if it faulted */
};

/*
 * Carries out one request, page by page as a bus does: what came through before a fault
 * stays done. Without any device's lock held: it takes the dma handle's, and for peers none. A
 * peer's registers do to it what they do to a CPU; that may be a request of the peer.
 */
void dma_perform(struct dma *dma, const struct dma_request *request, struct dma_outcome *outcome);

#endif
