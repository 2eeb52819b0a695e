/*
 * What measuring found, as JSON: schema strata.measure.
 */
#ifndef STRATA_REPORT_MEASURE_JSON_H
#define STRATA_REPORT_MEASURE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct measure_host;
struct measure_run;

/* The caller's to free; NULL: no memory. */
json_t *measure_json(const struct measure_host *host, const struct measure_run *runs, size_t n,
                     bool quick);

#endif
