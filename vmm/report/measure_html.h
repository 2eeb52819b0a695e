/*
 * A run of `strata measure` as a page: meaning, plots, figures, histograms, methods.
 */
#ifndef STRATA_REPORT_MEASURE_HTML_H
#define STRATA_REPORT_MEASURE_HTML_H

#include <stdbool.h>
#include <stdio.h>

#include "vmm/measure/measure.h"

struct measure_page {
    const struct measure_host *host;
    const struct measure_run *runs;
    size_t n;
    bool quick;
};

/* For html_write: `owner` is a struct measure_page. */
void measure_html(FILE *out, const void *owner);

#endif
