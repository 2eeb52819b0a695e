/* A tour and what came of it, for the reports on it (tour_text.h, tour_json.h, tour_html.h). */
#ifndef STRATA_REPORT_TOUR_REPORT_H
#define STRATA_REPORT_TOUR_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "vmm/tour/tour.h"

/* An exercise to run, and what came of it. */
struct tour_entry {
    const struct tour_exercise *exercise;
    struct tour_run run, control;
    bool has_run, has_control;
    json_t *memory_map; /* the inspector's report at exercise->memory_map; NULL: none. Owned */
};

struct tour {
    struct tour_host host;
    FILE *out; /* for people */
    bool colour;
    struct tour_entry *entries;
    size_t nentries;
    bool broken; /* --break: the run itself is the broken one, without a control */
};

/* The control failed, as it should. */
bool tour_control_failed(const struct tour_entry *entry);

/* All is as it should be. */
bool tour_entry_ok(const struct tour *tour, const struct tour_entry *entry);

size_t tour_count_passed(const struct tour_run *run);

/* "control fails, as it should", … */
const char *tour_control_words(const struct tour *tour, const struct tour_entry *entry);

#endif
