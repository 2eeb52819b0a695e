/* A tour as a page. */
#ifndef STRATA_REPORT_TOUR_HTML_H
#define STRATA_REPORT_TOUR_HTML_H

#include <stdio.h>

/* A page that stands by itself; a struct tour, for html_write. */
void tour_html_print(FILE *out, const void *tour);

#endif
