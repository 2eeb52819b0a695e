/*
 * Guest memory in a page: the parts that a report of the inspector (`report`) gives rise to.
 */
#ifndef STRATA_REPORT_MEMORY_HTML_H
#define STRATA_REPORT_MEMORY_HTML_H

#include <jansson.h>
#include <stdio.h>

/*
 * The map that page.js draws. `captures` is [{"title", "map"}, …], of which the reader
 * chooses one; `first` is shown at first. Once in a page.
 */
void memory_map_html(FILE *out, const json_t *captures, unsigned first);

/* What a report counts: kinds of frames, sharing, tables in both dimensions. */
void memory_totals_html(FILE *out, const json_t *report);

/* How long the stretches of free and of private memory are: a plot. */
void memory_stretches_html(FILE *out, const json_t *report);

/* The ways of the report's addresses through all layers. */
void memory_walks_html(FILE *out, const json_t *report);

#endif
