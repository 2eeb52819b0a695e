/* What `strata dma test` found, as JSON. */
#ifndef STRATA_REPORT_DMA_JSON_H
#define STRATA_REPORT_DMA_JSON_H

#include <jansson.h>

#include "vmm/report/dma_summary.h"

/* Schema strata.dma-test; NULL: out of memory. */
json_t *dma_json(const struct dma_report *report);

/* The policy as it was read, for --check-only: schema strata.dma-policy; NULL: out of memory. */
json_t *dma_json_policy(const struct policy *policy, const char *path);

#endif
