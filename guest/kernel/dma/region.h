/* Memory regions of the DMA policy (guest/abi/policy.h), and the frames behind them. */
#ifndef STRATA_KERNEL_DMA_REGION_H
#define STRATA_KERNEL_DMA_REGION_H

#include <stdint.h>

/* Takes the frames of regions with an address out of the allocator. After paging_setup. */
void region_setup(void);

/*
 * The first frame of a region; they follow each other. One without an address gets
 * its memory now. 0: there is no such region, or it has no memory.
 */
uint64_t region_frame(uint32_t region);

uint64_t region_pages(uint32_t region);

/* Where devices have it: its `iommu-addresses`, else its GPA. */
uint64_t region_iova(uint32_t region);

#endif
