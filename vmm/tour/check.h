/* What an exercise finds out: checks, which must hold, and figures. Each is added to its run. */
#ifndef STRATA_TOUR_CHECK_H
#define STRATA_TOUR_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/tour/tour.h"

/* All checks passed, and there were some. */
bool tour_ok(const struct tour_run *run);

/*
 * What the exercise shows was found not to be so: a check of its own failed. A run that only
 * did not come to its end, or dropped checks, is not ok and not refuted either.
 */
bool tour_refuted(const struct tour_run *run);

/* Adds a check, by numbers or by a condition with both sides in words. */
void check_equal(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
void check_hex(struct tour_run *run, uint64_t expected, uint64_t observed, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
void check_true(struct tour_run *run, bool ok, const char *expected, const char *observed,
                const char *name, ...) __attribute__((format(printf, 5, 6)));

/* The same for the run's course: that it came to its end, and by which steps. */
void check_course(struct tour_run *run, bool ok, const char *expected, const char *observed,
                  const char *name, ...) __attribute__((format(printf, 5, 6)));

void check_add_figure(struct tour_run *run, double value, const char *name, ...)
    __attribute__((format(printf, 3, 4)));

/* A figure by its full name; NAN if there is none. */
double check_figure(const struct tour_run *run, const char *name);

/*
 * The audit of all address spaces, which every checkpoint can afford: no reference
 * that no mapping explains but `held` of them, nothing of the kernel open to users.
 */
void check_audit(struct tour_run *run, const struct guest_view *view, uint64_t held,
                 const char *when, struct guest_audit *audit);

/* TSC ticks of the guest in nanoseconds. */
double check_ticks_to_ns(const struct tour_run *run, uint64_t ticks);

/* Root of the page tables that a vCPU has loaded now; 0 if it cannot be read. */
uint64_t check_vcpu_root(const struct tour_run *run, unsigned index);

#endif
