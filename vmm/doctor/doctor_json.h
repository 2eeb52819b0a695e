/* What the host offers, as JSON. */
#ifndef STRATA_DOCTOR_DOCTOR_JSON_H
#define STRATA_DOCTOR_DOCTOR_JSON_H

#include <jansson.h>

struct host_info;

/* Schema strata.doctor; the caller's to free. */
json_t *doctor_json(const struct host_info *info);

#endif
