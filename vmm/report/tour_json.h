/* A tour as JSON. */
#ifndef STRATA_REPORT_TOUR_JSON_H
#define STRATA_REPORT_TOUR_JSON_H

#include <jansson.h>

#include "vmm/report/tour_report.h"

/* Schema strata.tour; the caller's to free. */
json_t *tour_json(const struct tour *tour);

#endif
