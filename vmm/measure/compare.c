#include "vmm/measure/compare.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool compare_has_interval(const struct measure_figure *figure)
{
    return figure->low > 0 && isfinite(figure->high);
}

static void compare_set_interval(struct comparison *comparison)
{
    const struct measure_figure *a = comparison->a, *b = comparison->b;

    if (compare_has_interval(a) && compare_has_interval(b)) {
        comparison->low = b->low / a->high;
        comparison->high = b->high / a->low;
    }
}

static enum comparison_verdict compare_judge(const struct comparison *comparison)
{
    const struct measure_figure *a = comparison->a, *b = comparison->b;

    if (a->kind == MEASURE_COUNT)
        return a->value == b->value ? COMPARISON_EQUAL : COMPARISON_DIFFERENT;
    if (isnan(comparison->low) || isnan(comparison->ratio))
        return COMPARISON_UNKNOWN;
    if (comparison->low <= 1 && comparison->high >= 1)
        return COMPARISON_NOISE;
    if (a->kind == MEASURE_DISTRIBUTION && fabs(comparison->ratio - 1) < 1.0 / ABI_HISTOGRAM_STEPS)
        return COMPARISON_NOISE;
    return COMPARISON_SIGNIFICANT;
}

struct comparison compare_figures(const struct measure_figure *a, const struct measure_figure *b)
{
    struct comparison comparison = { .a = a, .b = b, .ratio = NAN, .low = NAN, .high = NAN };

    if (!a || !b) {
        comparison.verdict = COMPARISON_ALONE;
    } else if (a->kind != b->kind || a->kind == MEASURE_UNAVAILABLE) {
        comparison.verdict = COMPARISON_LACKING;
    } else {
        if (a->value != 0 && isfinite(a->value) && isfinite(b->value))
            comparison.ratio = b->value / a->value;
        if (a->kind != MEASURE_COUNT)
            compare_set_interval(&comparison);
        comparison.verdict = compare_judge(&comparison);
    }
    return comparison;
}

static int compare_by_name(const void *left, const void *right)
{
    const struct measure_figure *const *a = left, *const *b = right;

    return strcmp((*a)->name, (*b)->name);
}

const struct measure_figure **compare_sorted(const struct measure_figure *figures, size_t n)
{
    const struct measure_figure **index = calloc(n + 1, sizeof(*index));

    for (size_t i = 0; index && i < n; i++)
        index[i] = &figures[i];
    if (index)
        qsort(index, n, sizeof(*index), compare_by_name);
    return index;
}

static const struct measure_figure *compare_find(const struct measure_figure **index, size_t n,
                                                 const struct measure_figure *wanted)
{
    const struct measure_figure **found = bsearch(&wanted, index, n, sizeof(*index),
                                                  compare_by_name);

    return found ? *found : NULL;
}

long compare_all(const struct measure_figure *a, size_t na, const struct measure_figure *b,
                 size_t nb, struct comparison *comparisons)
{
    const struct measure_figure **of_a = compare_sorted(a, na), **of_b = compare_sorted(b, nb);
    long n = of_a && of_b ? 0 : -ENOMEM;

    if (!n) {
        for (size_t i = 0; i < na; i++)
            comparisons[n++] = compare_figures(&a[i], compare_find(of_b, nb, &a[i]));
        for (size_t i = 0; i < nb; i++) {
            if (!compare_find(of_a, na, &b[i]))
                comparisons[n++] = compare_figures(NULL, &b[i]);
        }
    }
    free(of_a);
    free(of_b);
    return n;
}

const char *comparison_verdict_name(enum comparison_verdict verdict)
{
    static const char *const names[] = {
        [COMPARISON_EQUAL] = "equal",     [COMPARISON_DIFFERENT] = "different",
        [COMPARISON_NOISE] = "noise",     [COMPARISON_SIGNIFICANT] = "significant",
        [COMPARISON_UNKNOWN] = "unknown", [COMPARISON_LACKING] = "lacking",
        [COMPARISON_ALONE] = "alone",
    };

    return names[verdict];
}
