/*
 * What the nodes of a policy say: the IOMMU's, those of /reserved-memory, the devices'. What
 * reads one returns 0, or -EINVAL with a complaint.
 */
#ifndef STRATA_DMA_POLICY_NODES_H
#define STRATA_DMA_POLICY_NODES_H

#include <stdint.h>

#include "vmm/dma/policy/reader.h"

int policy_read_iommu(struct policy_reader *reader);

/* Children of /reserved-memory; after the devices' nodes are known. */
int policy_read_regions(struct policy_reader *reader);

/* Device n of the list; after the IOMMU and the regions. */
int policy_read_device(struct policy_reader *reader, unsigned n);

/* A region's index by the phandle of its node, or -1. */
int policy_region_of(const struct policy_reader *reader, uint32_t phandle);

#endif
