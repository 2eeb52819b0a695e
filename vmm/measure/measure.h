/*
 * Experiments: each measures one thing that nested paging costs, says how, and what its
 * numbers mean on this host. What comes of one is a list of figures with stable names.
 *
 * A figure's name is a path, "walks/vm/guest-4k/host-2m/64M/ns": the experiment, what was
 * varied, and last the unit, so that two runs, or two hosts, can be compared name by name.
 */
#ifndef STRATA_MEASURE_MEASURE_H
#define STRATA_MEASURE_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "vmm/machine/kvm.h"

#define MEASURE_NAME_BYTES 96
#define MEASURE_TEXT_BYTES 400

enum measure_kind {
    MEASURE_DISTRIBUTION, /* of single measurements: count, p50, p99, p999, min, max */
    MEASURE_VALUE,        /* one number; low and high: its interval, if it has one */
    MEASURE_COUNT,        /* one that another run must give again exactly */
    MEASURE_UNAVAILABLE,  /* this host cannot give it; text says why */
};

struct measure_figure {
    enum measure_kind kind;
    char name[MEASURE_NAME_BYTES];
    uint64_t count;                  /* of measurements */
    double value;                    /* of a distribution: its p50 */
    double low, high;                /* 95 % interval of the value, or of the median; NAN: none */
    double min, p99, p999, max;      /* of a distribution */
    char text[MEASURE_TEXT_BYTES];   /* MEASURE_UNAVAILABLE */
    struct abi_histogram *histogram; /* of a distribution, in ticks; may be NULL. Owned */
    double ns_per_tick;              /* of the histogram */
};

struct measure_host {
    const struct kvm_host *kvm;
    unsigned cpus;         /* of the host, that this process may use */
    uint64_t memory_bytes; /* that experiments may use in all, the native part included */
    bool virtual_machine;  /* this machine is itself one (CPUID 1.ecx, bit 31) */
    bool interprets;       /* kernel code of guests is interpreted: smaller sizes */
    char cpu[64], kernel[64];
};

struct measure_experiment;

/* One experiment as it runs, and what came of it. */
struct measure_run {
    const struct measure_experiment *experiment;
    const struct measure_host *host;
    bool quick; /* a few seconds, with smaller sizes and counts: half a minute for all */
    uint64_t seed;
    /* Says how far it is, 0 to 1, and what it does now; NULL: not told. */
    void (*progress)(void *owner, double share, const char *doing);
    void *progress_owner;

    size_t nfigures, room;
    struct measure_figure *figures;
    bool out_of_memory;                   /* figures were dropped */
    char meaning[4 * MEASURE_TEXT_BYTES]; /* sentences: what the numbers say on this host */
    char error[MEASURE_TEXT_BYTES];       /* why it could not be done at all; "": it was */
    uint64_t elapsed_ns;
};

/*
 * A plot of figures, found by patterns of names, one or more with spaces between them. In a
 * pattern a part `*` is any one, and `=vm` is "vm"; both name the series, the other parts
 * do not. A part that ends in `%` has a number there, perhaps with K, M or G for 2^10, 2^20,
 * 2^30: x of a curve. Without it there is one bar for each figure.
 */
struct measure_plot {
    const char *title; /* with the unit of y; NULL: behind the last one */
    const char *patterns;
    const char *x_label; /* NULL: bars */
};

struct measure_experiment {
    const char *name;
    const char *shows;  /* in one line */
    const char *method; /* how, in enough detail to do it again */
    /* 0; or -errno with run->error set: it could not be measured at all. */
    int (*run)(struct measure_run *run);
    const struct measure_plot *plots; /* NULL: none */
};

/* All of them, in order. */
extern const struct measure_experiment *const measure_experiments[];
extern const size_t measure_experiments_count;

/* NULL: none of that name. */
const struct measure_experiment *measure_find(const char *name);

/* What this host is; memory_bytes by what is free or can be freed (room.h). */
void measure_host_describe(struct measure_host *host, const struct kvm_host *kvm);

/* Runs it; figures are the run's until measure_run_free. 0, or -errno with run->error. */
int measure_run(struct measure_run *run, const struct measure_experiment *experiment);
void measure_run_free(struct measure_run *run);

/* The figure of that name; NULL: none. */
const struct measure_figure *measure_figure(const struct measure_run *run, const char *name);

/* ---- For the experiments --------------------------------------------------- */

void measure_progress(struct measure_run *run, double share, const char *doing);

/*
 * A distribution of ticks as nanoseconds, less `floor_ticks` (what measuring nothing takes)
 * of each; a copy of the histogram is kept. Of nothing: a lack.
 */
void measure_distribution(struct measure_run *run, const struct abi_histogram *histogram,
                          double ns_per_tick, double floor_ticks, const char *name, ...)
    __attribute__((format(printf, 5, 6)));
void measure_value(struct measure_run *run, double value, double low, double high, uint64_t count,
                   const char *name, ...) __attribute__((format(printf, 6, 7)));
void measure_count(struct measure_run *run, uint64_t value, const char *name, ...)
    __attribute__((format(printf, 3, 4)));
void measure_unavailable(struct measure_run *run, const char *why, const char *name, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a sentence to run->meaning. */
void measure_remark(struct measure_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The median of n values, and the ends of its 95 % interval by order statistics (the
 * binomial of the ranks); n < 6: the least and the largest. Sorts them. n is not 0.
 */
double measure_median(double *values, size_t n, double *low, double *high);

#endif
