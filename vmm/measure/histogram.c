#include "vmm/measure/histogram.h"

#include <math.h>

double histogram_at(const struct abi_histogram *histogram, double share)
{
    double wanted = ceil(share * (double)histogram->count), value;
    uint64_t seen = 0;
    unsigned i = 0;

    if (!histogram->count)
        return 0;
    for (; i < ABI_HISTOGRAM_BUCKETS - 1; i++) {
        seen += histogram->bucket[i];
        if ((double)seen >= wanted && seen)
            break;
    }
    if (i == ABI_HISTOGRAM_BUCKETS - 1)
        return (double)histogram->max;
    value = ((double)abi_histogram_low(i) + (double)abi_histogram_low(i + 1) - 1) / 2;
    return fmin(fmax(value, (double)histogram->min), (double)histogram->max);
}

void histogram_merge(struct abi_histogram *to, const struct abi_histogram *from)
{
    if (from->count && (!to->count || from->min < to->min))
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    to->count += from->count;
    to->sum += from->sum;
    for (unsigned i = 0; i < ABI_HISTOGRAM_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}
