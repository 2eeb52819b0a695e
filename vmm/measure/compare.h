/*
 * Two runs of the experiments side by side, figure by figure: what differs, and what may be
 * mere noise.
 */
#ifndef STRATA_MEASURE_COMPARE_H
#define STRATA_MEASURE_COMPARE_H

#include <stddef.h>

#include "vmm/measure/measure.h"

enum comparison_verdict {
    COMPARISON_EQUAL,       /* of counts */
    COMPARISON_DIFFERENT,   /* of counts */
    COMPARISON_NOISE,       /* the 95 % intervals meet, or it is less than a bucket's width */
    COMPARISON_SIGNIFICANT, /* they do not */
    COMPARISON_UNKNOWN,     /* single values: how they vary is not known */
    COMPARISON_LACKING,     /* one host, or both, cannot give it */
    COMPARISON_ALONE,       /* only one run has it */
    COMPARISON_VERDICTS,
};

struct comparison {
    const struct measure_figure *a, *b; /* NULL: only the other has it */
    double ratio;                       /* b / a of medians, values, counts; NAN: none */
    double low, high;                   /* the widest that the two intervals allow; NAN: none */
    enum comparison_verdict verdict;
};

/* One figure of each; one may be NULL, and what is left of them must have the same name. */
struct comparison compare_figures(const struct measure_figure *a, const struct measure_figure *b);

/* Pointers to all figures, sorted by name; the caller frees them. NULL: no memory. */
const struct measure_figure **compare_sorted(const struct measure_figure *figures, size_t n);

/*
 * All figures by their names, in the order of `a`, then those that only `b` has. At most
 * na + nb; room is the caller's. No name may be there twice on one side. Returns how many, or
 * -ENOMEM.
 */
long compare_all(const struct measure_figure *a, size_t na, const struct measure_figure *b,
                 size_t nb, struct comparison *comparisons);

const char *comparison_verdict_name(enum comparison_verdict verdict);

#endif
