/*
 * What measuring found, for people.
 */
#ifndef STRATA_REPORT_MEASURE_TEXT_H
#define STRATA_REPORT_MEASURE_TEXT_H

#include <stdbool.h>
#include <stdio.h>

struct measure_host;
struct measure_run;

/* "ept", … in words that say whether walks are two-dimensional there. */
const char *measure_paging(const struct measure_host *host);

void measure_print_heading(FILE *out, const struct measure_host *host, bool quick);
void measure_print(FILE *out, const struct measure_run *run);

#endif
