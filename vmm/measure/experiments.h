/*
 * The experiments, each in a file of its own.
 */
#ifndef STRATA_MEASURE_EXPERIMENTS_H
#define STRATA_MEASURE_EXPERIMENTS_H

#include "vmm/measure/measure.h"

extern const struct measure_experiment measure_clock;
extern const struct measure_experiment measure_faults;
extern const struct measure_experiment measure_fork;
extern const struct measure_experiment measure_exits;
extern const struct measure_experiment measure_walks;
extern const struct measure_experiment measure_tables;
extern const struct measure_experiment measure_workloads;

#endif
