/*
 * Results as JSON (jansson).
 */
#ifndef STRATA_REPORT_JSON_H
#define STRATA_REPORT_JSON_H

#include <jansson.h>

#include "vmm/base/output_file.h"

/* Writes the value and ends the output, as output_file_write. */
int json_write(struct output_file *output, const json_t *value);

/* A number; null for what JSON has none for: infinities, and no number at all. */
json_t *json_number_or_null(double value);

/* {"schema": schema, "version": version} */
json_t *json_result(const char *schema, int version);

#endif
