/* What attacks on a mapping's life begin and end with: the scratch page, mapped. */
#ifndef STRATA_DMA_ATTACKS_SCRATCH_H
#define STRATA_DMA_ATTACKS_SCRATCH_H

#include "vmm/dma/engine.h"

/* Maps this page, with fresh canaries, for the cell's device: its address, 0 if that failed. */
uint64_t scratch_map(struct lab *lab, struct lab_cell *cell, struct lab_page *page);

/* The page at this address, and where nothing translates, at its own too. */
struct lab_victim scratch_victim(struct lab *lab, unsigned device, struct lab_page *page,
                                 uint64_t iova);

/* What must become of the device's requests once the page is unmapped. */
enum lab_gate scratch_gate_after_unmap(struct lab *lab, unsigned device);

#endif
