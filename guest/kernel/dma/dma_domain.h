/*
 * Domains of the IOMMU as the kernel keeps them: which devices share one, and which
 * addresses are free in it. For dma.c and dma_attach.c only.
 */
#ifndef STRATA_KERNEL_DMA_DMA_DOMAIN_H
#define STRATA_KERNEL_DMA_DMA_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/machine.h"
#include "guest/kernel/dma/dma.h"

#define DMA_SIZES        11 /* records for 1 << 0 … 1 << 10 pages */
#define DMA_RESERVED_MAX 32
/* A lazy unmap takes effect when so many have been collected, or so much later. */
#define DMA_LAZY_MAX 256
#define DMA_LAZY_US  10000

struct dma_domain {
    uint32_t number;
    bool used;
    bool translates;   /* else addresses are guest-physical */
    unsigned attached; /* devices, now */
    /*
     * Addresses up to `next` have been given out, [next, last] never yet. A record keeps
     * its addresses for life, so free addresses are free records, by size.
     */
    uint64_t next, last;
    struct dma_mapping *free[DMA_SIZES];
    struct {
        uint64_t first, last;
    } reserved[DMA_RESERVED_MAX];
    unsigned nreserved;
    /* Unmapped lazily: the IOMMU does not know yet. */
    struct dma_mapping *lazy;
    unsigned nlazy;
    uint64_t lazy_since; /* time stamp of the oldest */
};

#define DMA_DOMAINS_MAX ABI_MMIO_DEVICES_MAX /* one for each device */
extern struct dma_domain dma_domains[DMA_DOMAINS_MAX];

/* The domain of this number, made if there is none; NULL if there are too many. */
struct dma_domain *dma_domain_of(uint32_t number, bool translates);

/* Keeps [first, last] out of what is given out from now on. */
void dma_domain_reserve(struct dma_domain *domain, uint64_t first, uint64_t last);

/* Addresses for so many pages, given out for good; 0 if there are none. */
uint64_t dma_domain_take(struct dma_domain *domain, uint64_t pages);

/* A record with room for so many pages (0: with no addresses of its own); NULL. */
struct dma_mapping *dma_record(struct dma_domain *domain, uint64_t pages);

void dma_record_free(struct dma_mapping *mapping);

/* ---- dma.c ---------------------------------------------------------------- */

/* Devices without an IOMMU, and records without addresses. */
extern struct dma_domain dma_direct;

/* The IOMMU would not unmap something that is to be given back with the next dma_commit. */
extern bool dma_unmap_failed;

static inline bool dma_translates(const struct device *device)
{
    return device->mode == ABI_DMA_STRICT || device->mode == ABI_DMA_LAZY;
}

/* Puts a record on the device's list. */
void dma_enlist(struct device *device, struct dma_mapping *mapping);

/* Tells the IOMMU, true with the next dma_commit. */
void dma_install(struct dma_mapping *mapping);
void dma_uninstall(struct dma_mapping *mapping);

#endif
