#include "vmm/measure/fork_model.h"

#include <math.h>

double fork_model_crossover(const struct fork_costs *costs)
{
    return (costs->alloc + costs->copy - costs->pt) / costs->cow;
}

double fork_model_zero(const double *share, const double *difference, size_t n)
{
    double x = 0, y = 0, xx = 0, xy = 0, slope;

    for (size_t i = 0; i < n; i++) {
        x += share[i] / (double)n;
        y += difference[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (share[i] - x) * (share[i] - x);
        xy += (share[i] - x) * (difference[i] - y);
    }
    if (xx <= 0 || xy == 0)
        return NAN;
    slope = xy / xx;
    return x - y / slope;
}
