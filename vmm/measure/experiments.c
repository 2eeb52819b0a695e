#include "vmm/measure/experiments.h"

const struct measure_experiment *const measure_experiments[] = {
    &measure_clock,     &measure_walks,  &measure_faults, &measure_exits,
    &measure_workloads, &measure_tables, &measure_fork,
};
const size_t measure_experiments_count = sizeof(measure_experiments) /
                                         sizeof(measure_experiments[0]);
