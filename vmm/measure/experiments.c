#include "vmm/measure/measure.h"

const struct measure_experiment *const measure_experiments[] = { NULL };
const size_t measure_experiments_count = 0;
