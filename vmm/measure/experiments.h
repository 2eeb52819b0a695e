/*
 * The experiments, in the order in which `strata measure` runs them. A row names the file,
 * vmm/measure/FILE.c, which holds everything else in its
 * `const struct measure_experiment measure_FILE`:
 *
 *     ROW(FILE)
 */
#ifndef STRATA_MEASURE_EXPERIMENTS_H
#define STRATA_MEASURE_EXPERIMENTS_H

#include "vmm/measure/measure.h"

#define EXPERIMENTS(ROW) \
    ROW(clock)           \
    ROW(walks)           \
    ROW(faults)          \
    ROW(exits)           \
    ROW(workloads)       \
    ROW(tables)          \
    ROW(fork)

#define EXPERIMENT_DECLARATION(file) extern const struct measure_experiment measure_##file;

EXPERIMENTS(EXPERIMENT_DECLARATION)

#undef EXPERIMENT_DECLARATION

#endif
