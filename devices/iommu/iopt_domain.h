/*
 * Domains whose tables are the IOMMU's own (iopt.h): what iommu_map and iommu_unmap change.
 * They pin what they map, and have quotas.
 */
#ifndef STRATA_IOMMU_IOPT_DOMAIN_H
#define STRATA_IOMMU_IOPT_DOMAIN_H

#include "devices/iommu/domain.h"

/* An empty one. 0 or -ENOMEM. With the unit's lock, as all that is done with it. */
int iopt_domain_create(struct iommu *iommu, struct iommu_domain **made);

#endif
