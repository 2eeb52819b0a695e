/*
 * A tour and what came of it, for those that tell of it.
 */
#ifndef STRATA_REPORT_TOUR_REPORT_H
#define STRATA_REPORT_TOUR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "vmm/tour/tour.h"

/* An exercise to run, and what came of it. */
struct stop {
    const struct tour_exercise *exercise;
    struct tour_run run, control;
    bool has_run, has_control;
    json_t *picture; /* the inspector's report at exercise->picture; NULL: none. Owned */
};

struct tour {
    struct tour_host host;
    FILE *out; /* for people */
    bool colour;
    struct stop *stops;
    size_t nstops;
    bool broken; /* --break: the run itself is the broken one, without a control */
};

/* The control failed, as it should. */
bool tour_control_failed(const struct stop *stop);

/* All is as it should be. */
bool tour_stop_ok(const struct tour *tour, const struct stop *stop);

size_t tour_count_passed(const struct tour_run *run);

/* "control fails, as it should", … */
const char *tour_control_words(const struct tour *tour, const struct stop *stop);

/* On tour->out: what comes before the rows, and the row of an exercise that has run. */
void tour_print_heading(const struct tour *tour);
void tour_print_row(const struct tour *tour, const struct stop *stop);

/* Schema strata.tour; the caller's to free. */
json_t *tour_json(const struct tour *tour);

/* Plots of what a run measured: its histograms and curves (tour_plots.c). */
void tour_plots_html(FILE *out, const struct tour_run *run);

/* A page that stands by itself; a struct tour, for html_write. */
void tour_print_html(FILE *out, const void *tour);

#endif
