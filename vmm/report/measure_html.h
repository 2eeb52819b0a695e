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

/* The plots that the run's experiment asks for (struct measure_plot). */
void measure_plots_html(FILE *out, const struct measure_run *run);

/*
 * Whether a name fits a pattern (struct measure_plot). The parts that name the series go to
 * `series`, with spaces between them; the number, if there is one, to *x.
 */
bool measure_plot_match(const char *pattern, const char *name, char *series, size_t series_bytes,
                        double *x);

#endif
