/*
 * Endpoints of the unit: what each is attached to, what it may not use, and the way from an address
 * of its to memory.
 */
#ifndef STRATA_IOMMU_ENDPOINT_H
#define STRATA_IOMMU_ENDPOINT_H

#include <stdint.h>

#include "devices/iommu/unit.h"

struct iommu_domain;
struct iommu_endpoint;
struct iotlb_entry;

/* These are called with the unit's lock held. */
struct iommu_endpoint *iommu_find(const struct iommu *iommu, uint32_t id);

/*
 * Attaches the endpoint to `domain` (NULL: none): its translations are dropped, and transfers
 * that are under way have ended when this returns.
 */
void iommu_set_domain(struct iommu_endpoint *endpoint, struct iommu_domain *domain,
                      enum iommu_mode mode);

/* No translation of [first, last] of the domain is cached or in use any more. */
void iommu_invalidate(struct iommu *iommu, const struct iommu_domain *domain, uint64_t first,
                      uint64_t last);

/* No walk of the domain's table that is under way began before this. */
void iommu_quiesce(struct iommu *iommu, const struct iommu_domain *domain);

/*
 * For dma.c, with the endpoint's lock only: what iova leads to, as the IOTLB entry it
 * would have; it has one unless host is NULL (not RAM). Where `len` bytes from iova on are
 * more than that, *found goes on, in one piece of host memory, to hold as many of them as
 * follow each other; the IOTLB's entry does not. 0; or -EFAULT with the code and the detail of
 * fault, of which access and iova say what is asked for.
 */
int iommu_resolve(struct iommu_endpoint *endpoint, uint64_t len, struct iotlb_entry *found,
                  struct iommu_fault *fault);

/* Takes an endpoint off whatever it is attached to, and away. Without any lock. */
void iommu_remove_endpoint(struct iommu_endpoint *endpoint);

/* The mode of an endpoint that is attached to no domain. */
enum iommu_mode iommu_unattached_mode(const struct iommu *iommu);

#endif
