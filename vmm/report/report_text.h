/* The report on a guest that did not end well (report.h), for people. */
#ifndef STRATA_REPORT_REPORT_TEXT_H
#define STRATA_REPORT_REPORT_TEXT_H

#include <jansson.h>
#include <stdio.h>

/* In full: the vCPU that ended the run, and what is dead. */
void report_text_print(FILE *out, const json_t *report);

#endif
