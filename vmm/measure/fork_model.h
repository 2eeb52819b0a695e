/*
 * When copying at once is cheaper than copying on write: fork shares N pages for c_pt each,
 * and every page that is written then costs c_cow; copying all of them costs c_alloc + c_copy
 * each. Both take the same time when the share of pages written is
 * d* = (c_alloc + c_copy - c_pt) / c_cow.
 */
#ifndef STRATA_MEASURE_FORK_MODEL_H
#define STRATA_MEASURE_FORK_MODEL_H

#include <stddef.h>

/* Of one page, in any one unit. */
struct fork_costs {
    double pt, alloc, copy, cow;
};

/* d*: below 0 copying on write never pays, above 1 it always does. cow is not 0. */
double fork_model_crossover(const struct fork_costs *costs);

/*
 * Where the straight line nearest to the points (share[i], difference[i]), by least squares,
 * crosses zero, within or outside of them. NAN where it does not: n < 2, or no slope.
 */
double fork_model_zero(const double *share, const double *difference, size_t n);

#endif
