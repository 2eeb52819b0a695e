/*
 * Plots of an exercise's figures, found by their names, so that an exercise says what it
 * measured and no more:
 *
 *   NAME_from_LOW_UNIT_count    a bucket of a histogram, from LOW up to twice as much
 *   NAME_K, NAME_K_UNIT         point K of a curve; the one without a unit is what the
 *                               others are plotted over
 */
#ifndef STRATA_REPORT_TOUR_PLOTS_H
#define STRATA_REPORT_TOUR_PLOTS_H

#include <stdio.h>

#include "vmm/tour/tour.h"

/* Plots of what the run measured: its histograms and curves. */
void tour_plots_html(FILE *out, const struct tour_run *run);

#endif
