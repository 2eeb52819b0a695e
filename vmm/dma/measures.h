/* What the lab measures beside the matrix: exposure, windows, random requests. */
#ifndef STRATA_DMA_MEASURES_H
#define STRATA_DMA_MEASURES_H

#include "vmm/dma/engine.h"

/* lab_result.exposure, with everything set up. */
void measure_exposure(struct lab *lab);

/* lab_result.window: each translated device hammers at a page while it is unmapped. */
void measure_windows(struct lab *lab);

/* lab_result.random_*: options->random_seconds of requests held against a naive model. */
void measure_random(struct lab *lab);

#endif
