/* What `strata dma test` found, as a page. */
#ifndef STRATA_REPORT_DMA_HTML_H
#define STRATA_REPORT_DMA_HTML_H

#include <stdio.h>

#include "vmm/report/dma_summary.h"

/* A page that stands by itself. */
void dma_html_print(FILE *out, const struct dma_report *report);

#endif
