/* Copy on write against copying at once, on the guest's side and on the host's. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/syscall.h"
#include "vmm/measure/experiments.h"
#include "vmm/measure/fork_model.h"
#include "vmm/measure/fork_side.h"
#include "vmm/measure/session.h"
#include "vmm/measure/test_region.h"

static const char *const cost_names[FORK_COSTS] = { "share", "allocate", "copy", "copy-on-write",
                                                    "fork-that-copies" };

/* The median of one number for each batch, in ticks. */
static void fork_median(struct measure_run *run, const struct fork_side *side, double *batches,
                        const char *group, const char *name)
{
    double low, high, median = measure_median(batches, side->batches, &low, &high);

    measure_value(run, median * side->ns_per_tick, low * side->ns_per_tick,
                  high * side->ns_per_tick, side->batches, "fork/%s/%s/%s/ns", side->name, group,
                  name);
}

struct crossing {
    double predicted, found; /* by the formula; where the totals are the same */
};

static struct crossing fork_cross(const struct fork_side *side, enum fork_way way,
                                  const struct fork_costs *costs,
                                  const double total[FORK_WAYS][FORK_STEPS_MAX + 1])
{
    double share[FORK_STEPS_MAX + 1], difference[FORK_STEPS_MAX + 1], zero;

    for (unsigned step = 0; step <= side->steps; step++) {
        share[step] = (double)step / side->steps;
        difference[step] = total[FORK_WAY_COW][step] - total[way][step];
    }
    zero = fork_model_zero(share, difference, side->steps + 1);
    return (struct crossing){ fork_model_crossover(costs), isnan(zero) ? 0 : zero };
}

/* Such a fork allocates and copies in one, and shares what it does not copy. */
static struct fork_costs fork_costs_of(enum fork_way way, const double cost[FORK_COSTS])
{
    return (struct fork_costs){
        .pt = cost[FORK_COST_PT],
        .alloc = cost[way == FORK_WAY_EAGER ? FORK_COST_EAGER : FORK_COST_ALLOC],
        .copy = way == FORK_WAY_EAGER ? 0 : cost[FORK_COST_COPY],
        .cow = cost[FORK_COST_COW]
    };
}

static struct crossing fork_cross_batch(const struct fork_side *side, enum fork_way way,
                                        unsigned batch)
{
    double cost[FORK_COSTS], total[FORK_WAYS][FORK_STEPS_MAX + 1];
    struct fork_costs costs;

    for (unsigned i = 0; i < FORK_COSTS; i++)
        cost[i] = side->cost[i][batch];
    for (enum fork_way w = 0; w < FORK_WAYS; w++) {
        for (unsigned step = 0; step <= side->steps; step++)
            total[w][step] = side->total[w][step][batch];
    }
    costs = fork_costs_of(way, cost);
    return fork_cross(side, way, &costs, total);
}

/* Load only adds. */
static double fork_least_of(const double *values, unsigned n)
{
    double least = values[0];

    for (unsigned i = 1; i < n; i++)
        least = fmin(least, values[i]);
    return least;
}

/* Of the least of everything, which stands more load than single batches do. */
static struct crossing fork_cross_least(const struct fork_side *side, enum fork_way way)
{
    double cost[FORK_COSTS], total[FORK_WAYS][FORK_STEPS_MAX + 1];
    struct fork_costs costs;

    for (unsigned i = 0; i < FORK_COSTS; i++)
        cost[i] = fork_least_of(side->cost[i], side->batches);
    for (enum fork_way w = 0; w < FORK_WAYS; w++) {
        for (unsigned step = 0; step <= side->steps; step++)
            total[w][step] = fork_least_of(side->total[w][step], side->batches);
    }
    costs = fork_costs_of(way, cost);
    return fork_cross(side, way, &costs, total);
}

/* A value with the interval of the batches' own; how wide that is. */
static double fork_with_interval(struct measure_run *run, const struct fork_side *side,
                                 double value, double *batches, const char *what, const char *name)
{
    double low, high;

    measure_median(batches, side->batches, &low, &high);
    measure_value(run, value, fmin(low, value), fmax(high, value), side->batches,
                  "fork/%s/%s/%s/share", side->name, what, name);
    return fmax(high, value) - fmin(low, value);
}

static void fork_say(struct measure_run *run, const struct fork_side *side, enum fork_way way,
                     const struct crossing *at, double width)
{
    const char *what = way == FORK_WAY_EAGER ? "a fork that copies at once"
                                             : "copying by the program";
    const char *where = side->session ? "In the guest" : "On the host";

    if (width > 1)
        measure_remark(run,
                       "%s rounds differ too much to tell when copy on write pays against %s "
                       "(crossover %.2f, by the formula %.2f): a quieter machine would.",
                       where, what, at->found, at->predicted);
    else if (at->found <= 0)
        measure_remark(run,
                       "%s copy on write does not pay against %s, whatever is written "
                       "(crossover %.2f, by the formula %.2f).",
                       where, what, at->found, at->predicted);
    else if (at->found >= 1)
        measure_remark(run,
                       "%s copy on write pays against %s even if every page is written "
                       "(crossover %.2f, by the formula %.2f).",
                       where, what, at->found, at->predicted);
    else
        measure_remark(run,
                       "%s copy on write pays against %s until %.0f %% of the pages are written "
                       "(by the formula %.0f %%).",
                       where, what, 100 * at->found, 100 * at->predicted);
}

static void fork_report_way(struct measure_run *run, const struct fork_side *side,
                            enum fork_way way)
{
    static const char *const what[FORK_WAYS] = {
        [FORK_WAY_COPIED] = "copied", [FORK_WAY_EAGER] = "eager-fork"
    };
    double predicted[FORK_BATCHES_MAX], found[FORK_BATCHES_MAX], width;
    struct crossing all = fork_cross_least(side, way);

    for (unsigned i = 0; i < side->batches; i++) {
        struct crossing one = fork_cross_batch(side, way, i);

        predicted[i] = one.predicted;
        found[i] = one.found;
    }
    fork_with_interval(run, side, all.predicted, predicted, what[way], "by-formula");
    width = fork_with_interval(run, side, all.found, found, what[way], "crossover");
    fork_say(run, side, way, &all, width);
}

static void fork_report(struct measure_run *run, struct fork_side *side)
{
    static const char *const totals[FORK_WAYS] = { "cow", "copied", "eager-fork" };

    measure_count(run, side->pages, "fork/%s/pages", side->name);
    fork_report_way(run, side, FORK_WAY_COPIED);
    if (side->eager)
        fork_report_way(run, side, FORK_WAY_EAGER);
    else
        measure_unavailable(run, "Linux's fork never copies memory at once",
                            "fork/%s/eager-fork/crossover/share", side->name);
    for (unsigned i = 0; i < FORK_COSTS; i++) {
        if (i != FORK_COST_EAGER || side->eager)
            fork_median(run, side, side->cost[i], "page", cost_names[i]);
    }
    for (unsigned step = 0; step <= side->steps; step++) {
        char name[32];

        snprintf(name, sizeof(name), "written-%u", 100 * step / side->steps);
        for (enum fork_way way = 0; way < FORK_WAYS; way++) {
            if (way != FORK_WAY_EAGER || side->eager)
                fork_median(run, side, side->total[way][step], name, totals[way]);
        }
    }
}

static int fork_zero_on_free(struct session *session)
{
    const struct abi_command command = { .kind = ABI_COMMAND_ZEROING, .count = ABI_ZERO_ON_FREE };
    struct abi_reply reply;

    return test_region_command(session, &command, &reply, "choose when frames are zeroed");
}

static int fork_in_guest(struct measure_run *run, struct fork_side *side)
{
    const struct session_params params = { .memory_bytes = 64u << 20, .cpus = 1 };
    struct session session;
    int err = session_open(&session, run->host->kvm, &params, run->error, sizeof(run->error));

    if (err)
        return err;
    side->session = &session;
    side->ns_per_tick = 1e9 / (double)session.tsc_hz;
    err = fork_zero_on_free(&session);
    if (!err)
        err = fork_side_measure(run, side);
    if (!err)
        fork_report(run, side);
    if (err && session.program.failure[0])
        snprintf(run->error, sizeof(run->error), "%s", session.program.failure);
    side->session = NULL;
    session_close(&session);
    return err;
}

/* With no machine in this process, whose memory would be forked, too. */
static int fork_run(struct measure_run *run)
{
    static struct fork_side side;
    int err;

    side = (struct fork_side){ .name = "vm",
                               .eager = true,
                               .pages = run->host->interprets ? (run->quick ? 8 : 64)
                                                              : (run->quick ? 256 : 1024),
                               .steps = run->quick ? 4 : FORK_STEPS_MAX,
                               .batches = run->host->interprets
                                              ? (run->quick ? 6 : 16)
                                              : (run->quick ? 12 : FORK_BATCHES_MAX) };
    err = fork_in_guest(run, &side);
    if (err)
        return err;
    side = (struct fork_side){ .name = "native",
                               .pages = run->quick ? 512 : 4096,
                               .steps = side.steps,
                               .batches = run->quick ? 16 : FORK_BATCHES_MAX,
                               .ns_per_tick = side.ns_per_tick };
    err = fork_side_measure(run, &side);
    if (!err)
        fork_report(run, &side);
    return err;
}

static const struct measure_plot plots[] = {
    { "Fork in the guest, by the share of pages that the child writes (ns)",
      "fork/vm/written-%/*/ns", "written (%)" },
    { "Fork on the host (ns)", "fork/native/written-%/*/ns", "written (%)" },
    { .title = NULL },
};

const struct measure_experiment measure_fork = {
    .name = "fork",
    .shows = "copy on write against copying at once: from which share of pages written on",
    .method =
        "N resident 4K pages of the program (figure pages). By themselves, per page: share: a "
        "fork of which nothing is written; copy-on-write: a forked child's stores to all pages, "
        "in the order of a fixed permutation; allocate: first stores to fresh memory; copy: rep "
        "movsq between pages that are there. The formula: (allocate + copy - share) / "
        "copy-on-write. Then the total, fork until back plus the child's stores, for 0, 1/4 "
        "(full: 1/8) ... 1 of the pages, by turns with copying all pages to fresh memory and "
        "storing to as many there, and in the guest with a fork that copies at once. The "
        "crossover is where the straight line nearest to the differences is zero. All this goes "
        "round 6 to 32 times, after once to warm up; for formula and crossover the least of all "
        "rounds counts, with the 95 % interval of single rounds; other values are medians. The "
        "guest's kernel zeroes frames when they are freed, Linux when they are allocated.",
    .run = fork_run,
    .plots = plots,
};
