/*
 * One side of the experiment `fork`: the guest, or this process. What copying on write and
 * copying at once take there, in parts and in all, batch by batch.
 */
#ifndef STRATA_MEASURE_FORK_SIDE_H
#define STRATA_MEASURE_FORK_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/measure/measure.h"
#include "vmm/measure/session.h"

#define FORK_STEPS_MAX   8 /* shares of pages written: 0, 1/steps, … 1 */
#define FORK_BATCHES_MAX 32

/* One way to have a child that may write to all pages. */
enum fork_way {
    FORK_WAY_COW,    /* fork */
    FORK_WAY_COPIED, /* none: the program copies the pages to fresh memory */
    FORK_WAY_EAGER,  /* fork that copies at once; the bundled kernel's alone */
    FORK_WAYS,
};

/* Per page: what the formula is made of. */
enum fork_cost {
    FORK_COST_PT,
    FORK_COST_ALLOC,
    FORK_COST_COPY,
    FORK_COST_COW,
    FORK_COST_EAGER,
    FORK_COSTS
};

struct fork_side {
    const char *name;
    struct session *session; /* NULL: this process */
    bool eager;              /* it has FORK_WAY_EAGER */
    uint64_t pages, from, to;
    unsigned steps, batches;
    double ns_per_tick;
    /* In ticks; of one batch. */
    double cost[FORK_COSTS][FORK_BATCHES_MAX];
    double total[FORK_WAYS][FORK_STEPS_MAX + 1][FORK_BATCHES_MAX];
};

/*
 * Fills cost and total in, after one batch to warm up. For this process, no machine may be in
 * it, whose memory would be forked, too. 0; or -errno, with session->program.failure where there is
 * one.
 */
int fork_side_measure(struct measure_run *run, struct fork_side *side);

#endif
