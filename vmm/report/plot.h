/*
 * Plots, drawn by gnuplot, which runs as a program of its own. The colours are those of
 * page.css, so that a plot is right in light and in dark.
 */
#ifndef STRATA_REPORT_PLOT_H
#define STRATA_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define PLOT_SERIES_MAX  6
#define PLOT_ERROR_BYTES 160

enum plot_kind {
    PLOT_LINES,     /* y over x, with a mark for each point */
    PLOT_BARS,      /* y for each name */
    PLOT_HISTOGRAM, /* y for what is from x up to `to` */
};

struct plot_series {
    const char *name;
    size_t n;
    const double *x;         /* not for PLOT_BARS */
    const double *to;        /* only for PLOT_HISTOGRAM: ascending, above x */
    const double *y;         /* what is not finite is left out */
    const char *const *bars; /* only for PLOT_BARS: n names, those of the first series count */
};

struct plot {
    enum plot_kind kind;
    const char *title, *x_label, *y_label; /* with the unit; labels may be NULL */
    bool log_x, log_y;
    unsigned nseries; /* up to PLOT_SERIES_MAX */
    const struct plot_series *series;
};

/*
 * Writes an <svg> that can stand in any page. 0; or -errno with one line that says why
 * there is none: -ENOENT, gnuplot is not installed. Nothing is written then.
 */
int plot_svg(FILE *out, const struct plot *plot, char why[PLOT_ERROR_BYTES]);

/*
 * Writes the plot as a <figure> with its values in a table, which is folded away; where
 * there is no plot, why not, and the table.
 */
void plot_figure(FILE *out, const struct plot *plot);

#endif
