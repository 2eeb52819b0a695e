/*
 * What it takes to measure nothing: subtracted from every single measurement.
 */
#ifndef STRATA_MEASURE_CLOCK_H
#define STRATA_MEASURE_CLOCK_H

#include "vmm/measure/session.h"

/* The least ticks between two looks at the clock with nothing between them. 0 or -errno. */
int clock_floor(struct session *session, double *ticks);
double clock_floor_native(void);

#endif
