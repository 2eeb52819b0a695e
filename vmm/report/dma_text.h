/* What `strata dma test` found, for people and as TAP. */
#ifndef STRATA_REPORT_DMA_TEXT_H
#define STRATA_REPORT_DMA_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/report/dma_summary.h"

/* The matrix for people, at most 100 columns wide. */
void dma_text_print(FILE *out, const struct dma_report *report, bool colour);

/* One test for each cell. */
void dma_text_print_tap(FILE *out, const struct dma_report *report);

/* The policy as it was read, for --check-only. */
void dma_text_print_policy(FILE *out, const struct policy *policy);

#endif
