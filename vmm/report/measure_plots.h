/* Plots of an experiment's figures, found by the patterns that it gives (struct measure_plot). */
#ifndef STRATA_REPORT_MEASURE_PLOTS_H
#define STRATA_REPORT_MEASURE_PLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "vmm/measure/measure.h"

/* The plots that the run's experiment asks for. */
void measure_plots_html(FILE *out, const struct measure_run *run);

/*
 * Whether a name fits a pattern. The parts that name the series go to `series`, with spaces
 * between them; the number, if there is one, to *x.
 */
bool measure_plots_match(const char *pattern, const char *name, char *series, size_t series_bytes,
                         double *x);

#endif
