/* What the test harness measures beside the matrix: exposure and windows. */
#ifndef STRATA_DMA_MEASURES_H
#define STRATA_DMA_MEASURES_H

#include "vmm/dma/engine.h"

/* harness_result.exposure, with everything set up. */
void measures_exposure(struct harness *harness);

/* harness_result.window: each translated device hammers at a page while it is unmapped. */
void measures_windows(struct harness *harness);

#endif
