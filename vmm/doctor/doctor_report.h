/*
 * What the host offers, told.
 */
#ifndef STRATA_DOCTOR_DOCTOR_REPORT_H
#define STRATA_DOCTOR_DOCTOR_REPORT_H

#include <jansson.h>

struct host_facts;

/* For people, on standard output. */
void doctor_print(const struct host_facts *facts);

/* Schema strata.doctor; the caller's to free. */
json_t *doctor_json(const struct host_facts *facts);

#endif
