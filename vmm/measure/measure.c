#include "vmm/measure/measure.h"

#include <cpuid.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "vmm/base/host_cpus.h"
#include "vmm/base/monotonic.h"
#include "vmm/machine/cpuid.h"
#include "vmm/measure/available_memory.h"
#include "vmm/measure/histogram.h"

#define MEDIAN_LEAST 6 /* of fewer, no ranks give an interval of 95 % */

const struct measure_experiment *measure_find(const char *name)
{
    for (size_t i = 0; i < measure_experiments_count; i++) {
        if (!strcmp(measure_experiments[i]->name, name))
            return measure_experiments[i];
    }
    return NULL;
}

static bool measure_is_virtual_machine(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx >> 31;
}

void measure_host_describe(struct measure_host *host, const struct kvm_host *kvm)
{
    struct utsname system;

    *host = (struct measure_host){ .kvm = kvm,
                                   .cpus = host_cpus(),
                                   .memory_bytes = available_bytes() / 4 * 3,
                                   .virtual_machine = measure_is_virtual_machine(),
                                   .interprets = kvm_interprets_kernel_code(kvm) };
    cpuid_brand(host->cpu);
    if (uname(&system) == 0)
        snprintf(host->kernel, sizeof(host->kernel), "%.16s %.40s", system.sysname, system.release);
}

int measure_run(struct measure_run *run, const struct measure_experiment *experiment)
{
    uint64_t start = monotonic_ns();
    int err;

    run->experiment = experiment;
    err = experiment->run(run);
    if (!err && run->out_of_memory)
        err = -ENOMEM;
    if (err && !run->error[0])
        snprintf(run->error, sizeof(run->error), "%s", strerror(-err));
    run->elapsed_ns = monotonic_ns() - start;
    return err;
}

void measure_run_free(struct measure_run *run)
{
    for (size_t i = 0; i < run->nfigures; i++)
        free(run->figures[i].histogram);
    free(run->figures);
    run->figures = NULL;
    run->nfigures = run->room = 0;
}

const struct measure_figure *measure_figure(const struct measure_run *run, const char *name)
{
    for (size_t i = 0; i < run->nfigures; i++) {
        if (!strcmp(run->figures[i].name, name))
            return &run->figures[i];
    }
    return NULL;
}

void measure_progress(struct measure_run *run, double share, const char *doing)
{
    if (run->progress)
        run->progress(run->progress_owner, share, doing);
}

static struct measure_figure *measure_add(struct measure_run *run, enum measure_kind kind,
                                          const char *format, va_list arguments)
{
    struct measure_figure *figure;

    if (run->nfigures == run->room) {
        size_t room = run->room ? 2 * run->room : 32;
        struct measure_figure *more = realloc(run->figures, room * sizeof(*more));

        if (!more) {
            run->out_of_memory = true;
            return NULL;
        }
        run->figures = more;
        run->room = room;
    }
    figure = &run->figures[run->nfigures++];
    *figure = (struct measure_figure){ .kind = kind, .low = NAN, .high = NAN };
    vsnprintf(figure->name, sizeof(figure->name), format, arguments);
    return figure;
}

static double measure_in_ns(double ticks, double floor_ticks, double ns_per_tick)
{
    return fmax(ticks - floor_ticks, 0) * ns_per_tick;
}

void measure_distribution(struct measure_run *run, const struct abi_histogram *histogram,
                          double ns_per_tick, double floor_ticks, const char *name, ...)
{
    struct measure_figure *figure;
    va_list arguments;

    va_start(arguments, name);
    figure = measure_add(run, MEASURE_DISTRIBUTION, name, arguments);
    va_end(arguments);
    if (!figure)
        return;
    if (!histogram->count) {
        figure->kind = MEASURE_UNAVAILABLE;
        snprintf(figure->text, sizeof(figure->text), "it did not happen even once");
        return;
    }
    figure->count = histogram->count;
    figure->value = measure_in_ns(histogram_at(histogram, 0.5), floor_ticks, ns_per_tick);
    if (histogram->count >= MEDIAN_LEAST) {
        double half = 0.98 / sqrt((double)histogram->count); /* as measure_median */

        figure->low = measure_in_ns(histogram_at(histogram, 0.5 - half), floor_ticks, ns_per_tick);
        figure->high = measure_in_ns(histogram_at(histogram, 0.5 + half), floor_ticks, ns_per_tick);
    }
    figure->min = measure_in_ns((double)histogram->min, floor_ticks, ns_per_tick);
    figure->p99 = measure_in_ns(histogram_at(histogram, 0.99), floor_ticks, ns_per_tick);
    figure->p999 = measure_in_ns(histogram_at(histogram, 0.999), floor_ticks, ns_per_tick);
    figure->max = measure_in_ns((double)histogram->max, floor_ticks, ns_per_tick);
    figure->ns_per_tick = ns_per_tick;
    figure->histogram = malloc(sizeof(*histogram));
    if (figure->histogram)
        *figure->histogram = *histogram;
}

void measure_value(struct measure_run *run, double value, double low, double high, uint64_t count,
                   const char *name, ...)
{
    struct measure_figure *figure;
    va_list arguments;

    va_start(arguments, name);
    figure = measure_add(run, MEASURE_VALUE, name, arguments);
    va_end(arguments);
    if (!figure)
        return;
    figure->value = value;
    figure->low = low;
    figure->high = high;
    figure->count = count;
}

void measure_count(struct measure_run *run, uint64_t value, const char *name, ...)
{
    struct measure_figure *figure;
    va_list arguments;

    va_start(arguments, name);
    figure = measure_add(run, MEASURE_COUNT, name, arguments);
    va_end(arguments);
    if (figure)
        figure->value = (double)value;
}

void measure_unavailable(struct measure_run *run, const char *why, const char *name, ...)
{
    struct measure_figure *figure;
    va_list arguments;

    va_start(arguments, name);
    figure = measure_add(run, MEASURE_UNAVAILABLE, name, arguments);
    va_end(arguments);
    if (figure)
        snprintf(figure->text, sizeof(figure->text), "%s", why);
}

void measure_remark(struct measure_run *run, const char *format, ...)
{
    size_t used = strlen(run->meaning);
    va_list arguments;

    if (used && used + 1 < sizeof(run->meaning))
        run->meaning[used++] = ' ';
    va_start(arguments, format);
    vsnprintf(run->meaning + used, sizeof(run->meaning) - used, format, arguments);
    va_end(arguments);
}

static int measure_by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

double measure_median(double *values, size_t n, double *low, double *high)
{
    /* Ranks n/2 -+ 1.96 sqrt(n)/2: the normal approximation of the binomial. */
    double half = 0.98 * sqrt((double)n), middle = (double)n / 2;
    size_t first = n < MEDIAN_LEAST ? 0 : (size_t)floor(middle - half);
    size_t last = n < MEDIAN_LEAST ? n - 1 : (size_t)ceil(middle + half);

    qsort(values, n, sizeof(values[0]), measure_by_value);
    *low = values[first < n ? first : 0];
    *high = values[last < n ? last : n - 1];
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
