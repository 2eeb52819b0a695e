/*
 * snapshot-consistency: a structure of many pages is published to a process that reads it
 * all the time. Written in place, reads are torn; by swapping page frames behind an
 * inaccessible range none is. At a publication the host walks both processes before,
 * while the range is closed, and after: all frames are the old ones, or all the new.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define PAGES ABI_SNAPSHOT_PAGES

/* Publications by swapping, in place, and under a lock. */
#define SWAPS             10000
#define SWAPS_INTERPRETED 300
#define SWAPS_CONTROL     20
#define NAIVES            200
#define LOCKED            200
#define FEW               20
/* Where both vCPUs take turns on one host CPU only each so-many-th waits for the reader. */
#define STRIDE_ONE_CPU 16
/* The object behind the copy in place, and the page of control words. */
#define HELD_BY_OBJECT (PAGES + 1)

struct state {
    uint64_t gpa[2][PAGES]; /* the frames of a publication: [0] the reader's before, [1] new */
    uint64_t cow_copies;    /* of the writer, before it wrote anything */
    uint64_t looks;
    struct abi_process reader;
    double swap_ns, copy_ns;
};

static uint64_t snapshot_swaps(const struct tour_run *run)
{
    if (run->control)
        return SWAPS_CONTROL;
    return run->host->interprets ? SWAPS_INTERPRETED : SWAPS;
}

static void snapshot_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    int few = control || host->interprets || host->cpus == 1;

    snprintf(text, bytes, "snapshot-consistency %d %d %d %d%s",
             control            ? SWAPS_CONTROL
             : host->interprets ? SWAPS_INTERPRETED
                                : SWAPS,
             few ? FEW : NAIVES, few ? FEW : LOCKED, host->cpus == 1 ? STRIDE_ONE_CPU : 1,
             control ? " break" : "");
}

/* What a walk of one process's range found. */
struct range {
    struct abi_process process;
    uint64_t gpa[PAGES]; /* 0: not accessible */
    uint64_t present, writable, sole;
    uint64_t version; /* pages that hold this version, as asked, in both words */
};

static void snapshot_look(const struct guest_view *view, uint64_t pid, uint64_t va,
                          uint64_t version, struct range *range)
{
    memset(range, 0, sizeof(*range));
    if (guest_process(view, pid, &range->process))
        return;
    for (uint64_t i = 0; i < PAGES; i++) {
        struct paging_walk walk;
        const uint64_t *page;

        if (guest_walk(view, range->process.root, va + i * ABI_PAGE_BYTES, &walk))
            continue;
        range->gpa[i] = walk.leaf.gpa;
        range->present++;
        range->writable += walk.leaf.writable;
        range->sole += guest_frame(view, walk.leaf.gpa).refs == 1;
        page = memory_at(view->memory, walk.leaf.gpa, ABI_PAGE_BYTES);
        range->version += page && page[0] == ABI_SNAPSHOT_WORD(version, i) &&
                          page[ABI_PAGE_BYTES / sizeof(*page) - 1] == page[0];
    }
}

/* Pages whose frames are the same as `gpa` says. */
static uint64_t snapshot_same(const struct range *range, const uint64_t *gpa)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < PAGES; i++)
        n += range->gpa[i] && range->gpa[i] == gpa[i];
    return n;
}

/* One step of a publication; `version` is the one that is being published. */
static void snapshot_publication(struct tour_run *run, const struct abi_checkpoint *record,
                                 const struct guest_view *view)
{
    const uint64_t *arg = record->arg;
    uint64_t version = arg[ABI_SNAPSHOT_VERSION];
    bool told = record->step == ABI_SNAPSHOT_PUBLISHED;
    struct state *state = run->state;
    struct range writer, reader;
    struct guest_audit audit;

    snapshot_look(view, arg[ABI_SNAPSHOT_WRITER], arg[ABI_SNAPSHOT_VA], version, &writer);
    snapshot_look(view, arg[ABI_SNAPSHOT_READER], arg[ABI_SNAPSHOT_VA],
                  told ? version : version - 1, &reader);
    switch (record->step) {
    case ABI_SNAPSHOT_SHARED:
        snapshot_look(view, arg[ABI_SNAPSHOT_READER], arg[ABI_SNAPSHOT_VA], version, &reader);
        check_equal(run, PAGES, snapshot_same(&reader, writer.gpa), "forked: frames shared");
        check_equal(run, 0, reader.writable + writer.writable, "forked: pages writable");
        check_equal(run, PAGES, reader.version, "forked: pages of the first version");
        check_hex(run, reader.process.root, check_vcpu_root(run, 1),
                  "page table root on vCPU 1 is the reader's");
        check_hex(run, writer.process.root, check_vcpu_root(run, 0),
                  "page table root on vCPU 0 is the writer's");
        check_audit(run, view, HELD_BY_OBJECT, "forked", &audit);
        state->cow_copies = writer.process.cow_copies;
        break;
    case ABI_SNAPSHOT_PREPARED:
        memcpy(state->gpa[0], reader.gpa, sizeof(reader.gpa));
        memcpy(state->gpa[1], writer.gpa, sizeof(writer.gpa));
        check_equal(run, PAGES, writer.sole, "%" PRIu64 ": pages private to the writer", version);
        check_equal(run, PAGES, writer.version, "%" PRIu64 ": pages prepared", version);
        check_equal(run, PAGES, reader.version, "%" PRIu64 ": pages the reader still has old",
                    version);
        check_equal(run, PAGES, writer.process.cow_copies - state->cow_copies,
                    "%" PRIu64 ": pages copied on write so far", version);
        break;
    case ABI_SNAPSHOT_BLINDED:
        check_equal(run, 0, reader.present, "%" PRIu64 ": pages open to the reader before",
                    version);
        break;
    case ABI_SNAPSHOT_SWAPPED:
        check_equal(run, 0, reader.present, "%" PRIu64 ": pages open to it after the swap",
                    version);
        check_equal(run, PAGES, snapshot_same(&writer, state->gpa[0]),
                    "%" PRIu64 ": old frames taken from it", version);
        check_equal(run, 0, snapshot_same(&reader, state->gpa[0]) % PAGES,
                    "%" PRIu64 ": old frames among new ones", version);
        break;
    case ABI_SNAPSHOT_PUBLISHED:
        check_equal(run, PAGES, snapshot_same(&reader, state->gpa[1]),
                    "%" PRIu64 ": the reader's frames are the prepared ones", version);
        check_equal(run, 0, snapshot_same(&reader, state->gpa[0]),
                    "%" PRIu64 ": frames it had before", version);
        check_equal(run, PAGES, reader.version, "%" PRIu64 ": pages of the new version", version);
        check_equal(run, 0, reader.writable, "%" PRIu64 ": pages it may write", version);
        check_equal(run, PAGES, reader.sole, "%" PRIu64 ": pages private to it", version);
        if (state->looks++ == 0)
            check_audit(run, view, HELD_BY_OBJECT, "published", &audit);
        break;
    default: break;
    }
}

static void snapshot_at_least(struct tour_run *run, uint64_t least, uint64_t n, const char *name)
{
    char expected[32], observed[32];

    snprintf(expected, sizeof(expected), "at least %" PRIu64, least);
    snprintf(observed, sizeof(observed), "%" PRIu64, n);
    check_true(run, n >= least, expected, observed, "%s", name);
}

static void snapshot_naive(struct tour_run *run, const uint64_t *arg)
{
    /* Each publication meets a read that has the old half already. */
    snapshot_at_least(run, arg[ABI_SNAPSHOT_R_PUBLICATIONS], arg[ABI_SNAPSHOT_R_TORN],
                      "in place: torn reads");
    snapshot_at_least(run, 1, arg[ABI_SNAPSHOT_R_PUBLICATIONS], "in place: publications");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_PUBLICATIONS], "naive_publications");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_READS], "naive_reads");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_TORN], "naive_torn");
}

static void snapshot_done(struct tour_run *run, const uint64_t *arg, const struct guest_view *view)
{
    struct state *state = run->state;
    uint64_t stride = run->host->cpus == 1 ? STRIDE_ONE_CPU : 1;
    struct abi_process reader = { 0 };
    struct guest_audit audit;

    guest_process(view, arg[ABI_SNAPSHOT_R_READER], &reader);
    check_equal(run, snapshot_swaps(run), arg[ABI_SNAPSHOT_R_PUBLICATIONS],
                "publications by swapping");
    check_equal(run, (snapshot_swaps(run) + stride - 1) / stride, arg[ABI_SNAPSHOT_R_CAUGHT],
                "publications that met a read halfway");
    check_equal(run, 0, arg[ABI_SNAPSHOT_R_TORN], "torn reads");
    check_equal(run, 0, arg[ABI_SNAPSHOT_R_STALE], "reads of a version gone by");
    snapshot_at_least(run, arg[ABI_SNAPSHOT_R_CAUGHT], arg[ABI_SNAPSHOT_R_READS], "whole reads");
    snapshot_at_least(run, arg[ABI_SNAPSHOT_R_CAUGHT], arg[ABI_SNAPSHOT_R_RESTARTS],
                      "reads begun again");
    check_equal(run, reader.bad_faults, arg[ABI_SNAPSHOT_R_FAULTS],
                "faults at the barrier, as the kernel counted");
    snapshot_at_least(run, arg[ABI_SNAPSHOT_R_CAUGHT], reader.bad_faults,
                      "reads stopped by the barrier");
    check_equal(run, 0, arg[ABI_SNAPSHOT_R_LOCKED_TORN], "torn reads under the lock");
    snapshot_at_least(run, 1, arg[ABI_SNAPSHOT_R_LOCKED_READS], "whole reads under the lock");
    check_audit(run, view, HELD_BY_OBJECT, "done", &audit);
    state->swap_ns = check_ticks_to_ns(run, arg[ABI_SNAPSHOT_R_TICKS]);
    state->copy_ns = check_ticks_to_ns(run, arg[ABI_SNAPSHOT_R_LOCKED_TICKS]);
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_PUBLICATIONS], "publications");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_CAUGHT], "caught");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_READS], "reads");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_TORN], "torn");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_FAULTS], "barrier_faults");
    check_add_figure(run, (double)arg[ABI_SNAPSHOT_R_LOCKED], "locked_publications");
    check_add_figure(run, state->swap_ns, "publication_by_swap_ns");
    check_add_figure(run, state->copy_ns, "publication_by_locked_copy_ns");
}

static void snapshot_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                                const struct guest_view *view)
{
    switch (record->step) {
    case ABI_SNAPSHOT_NAIVE: snapshot_naive(run, record->arg); break;
    case ABI_SNAPSHOT_DONE: snapshot_done(run, record->arg, view); break;
    default: snapshot_publication(run, record, view); break;
    }
}

static void snapshot_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;
    double swap_us = state->swap_ns / 1000, copy_us = state->copy_ns / 1000;
    char cost[64] = "";

    check_add_figure(run, PAGES, "pages");
    if (isfinite(swap_us) && isfinite(copy_us))
        snprintf(cost, sizeof(cost), "; swap %.0f us, copy under a lock %.0f us", swap_us, copy_us);
    snprintf(key, bytes,
             "%d pages, torn reads: %.0f in %.0f publications in place, %.0f in %.0f by "
             "swap%s%s",
             PAGES, check_figure(run, "naive_torn"), check_figure(run, "naive_publications"),
             check_figure(run, "torn"), check_figure(run, "publications"), cost,
             run->host->cpus == 1 ? "; one CPU: reader and writer in turn" : "");
}

const struct tour_exercise tour_snapshot = {
    .name = "snapshot-consistency",
    .shows = "a swap of page frames behind a barrier is never seen half",
    .breaks = "frames are swapped in two goes while the reader may read",
    .id = ABI_SNAPSHOT,
    .steps = ABI_SNAPSHOT_STEPS,
    .command = snapshot_command,
    .checkpoint = snapshot_checkpoint,
    .memory_map = { ABI_SNAPSHOT_PREPARED, 1,
                    "the writer has prepared a version in frames of its own" },
    .conclude = snapshot_conclude,
    .state_bytes = sizeof(struct state),
};
