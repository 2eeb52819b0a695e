/*
 * What a histogram of ticks (guest/abi/measure.h) says.
 */
#ifndef STRATA_MEASURE_HISTOGRAM_H
#define STRATA_MEASURE_HISTOGRAM_H

#include <stdint.h>

#include "guest/abi/measure.h"

/* The least value that at least `share` (0 to 1) of all are not above; 0 of nothing. In a
 * bucket of several values: its middle, kept within min and max. */
double histogram_at(const struct abi_histogram *histogram, double share);

/* Adds all of `from` to `to`. */
void histogram_merge(struct abi_histogram *to, const struct abi_histogram *from);

#endif
