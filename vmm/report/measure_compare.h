/*
 * strata measure --compare: two earlier runs side by side.
 */
#ifndef STRATA_REPORT_MEASURE_COMPARE_H
#define STRATA_REPORT_MEASURE_COMPARE_H

#include <jansson.h>
#include <stdio.h>

#include "vmm/measure/compare.h"
#include "vmm/report/measure_read.h"

struct measure_comparison {
    struct measure_record a, b;
    size_t n;
    struct comparison *each;
    size_t count[COMPARISON_VERDICTS];
};

/* Reads both files. 0; or -errno and one line, with nothing to free. */
int measure_comparison_make(struct measure_comparison *comparison, const char *a, const char *b,
                            char *error, size_t error_bytes);
void measure_comparison_free(struct measure_comparison *comparison);

void measure_comparison_print(FILE *out, const struct measure_comparison *comparison);
json_t *measure_comparison_json(const struct measure_comparison *comparison);

/* For html_write: `owner` is the comparison. */
void measure_comparison_html(FILE *out, const void *owner);

#endif
