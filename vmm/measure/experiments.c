#include "vmm/measure/experiments.h"

#define EXPERIMENT_ROW(file) &measure_##file,

const struct measure_experiment *const measure_experiments[] = { EXPERIMENTS(EXPERIMENT_ROW) };
const size_t measure_experiments_count = sizeof(measure_experiments) /
                                         sizeof(measure_experiments[0]);
