/* A tour for people, a row for each exercise. */
#ifndef STRATA_REPORT_TOUR_TEXT_H
#define STRATA_REPORT_TOUR_TEXT_H

#include "vmm/report/tour_report.h"

/* On tour->out: what comes before the rows, and the row of an exercise that has run. */
void tour_text_print_heading(const struct tour *tour);
void tour_text_print_row(const struct tour *tour, const struct tour_entry *entry);

#endif
