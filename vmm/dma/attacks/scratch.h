/* What attacks on a mapping's life begin and end with: the scratch page, mapped. */
#ifndef STRATA_DMA_ATTACKS_SCRATCH_H
#define STRATA_DMA_ATTACKS_SCRATCH_H

#include "vmm/dma/engine.h"

/* Maps this page, with fresh canaries, for the cell's device: its address, 0 if that failed. */
uint64_t scratch_map(struct harness *harness, struct matrix_cell *cell, struct harness_page *page);

/* The page at this address, and where nothing translates, at its own too. */
struct harness_victim scratch_victim(struct harness *harness, unsigned device,
                                     struct harness_page *page, uint64_t iova);

/* What must become of the device's requests once the page is unmapped. */
enum harness_expect scratch_gate_after_unmap(struct harness *harness, unsigned device);

#endif
