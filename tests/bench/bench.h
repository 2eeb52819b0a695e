/*
 * The bench. A part measures something and reports lines; the list of
 * parts is in bench.c. A later part adds its file here and its row there.
 */
#ifndef STRATA_BENCH_BENCH_H
#define STRATA_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/harness.h"

#define BENCH_NO_LIMIT 0.0

struct bench {
    const char *strata; /* paths of the programs */
    const char *floor;
    const char *images; /* folder of the guests (guest_first.elf, …) */
    unsigned pairs;     /* how often to measure side by side */
    bool verbose;
};

/* Each returns 0, or -errno after saying what went wrong. */
int bench_start(const struct bench *bench);
int bench_exits(const struct bench *bench);
int bench_overhead(const struct bench *bench);
int bench_iommu(const struct bench *bench);
int bench_blk(const struct bench *bench);
int bench_inspect(const struct bench *bench);

/* One result, the median or total of n samples; falls short if value > limit. */
void bench_report(const char *name, double value, const char *unit, double limit, size_t n);

/* The same for what should be large; falls short if value < least. */
void bench_report_at_least(const char *name, double value, const char *unit, double least,
                           size_t n);

#endif
