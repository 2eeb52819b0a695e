/*
 * fork-cow: after fork every page is one frame read-only on both sides; a write
 * gives the writer a frame of its own, page by page, and one fault each. And what
 * that costs against a fork that copies at once: a child that overwrites everything
 * pays for every page a fault on top of the copy, and the optimisation backfires.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define PAGES_INTERPRETED 64
#define RUNS_INTERPRETED  3
#define PAGES             512
#define RUNS              5
#define PAGES_MAX         4096
#define POINTS_MAX        8
/* The page by which the child reports its times is held by its object. */
#define HELD_BY_OBJECT 1

struct point {
    uint64_t writes;
    double cow_ns, eager_ns;
};

struct state {
    uint64_t pages;
    uint64_t free_shared, copies_shared, faults_shared;
    uint64_t cascade, bulk;  /* page faults of a child that writes everything */
    uint64_t gpa[PAGES_MAX]; /* of each page, after fork */
    bool is_written[PAGES_MAX];
    struct point point[POINTS_MAX];
    size_t npoints;
};

static void fork_cow_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    if (control)
        snprintf(text, bytes, "fork-cow %d 0 break", PAGES_INTERPRETED);
    else if (host->interprets)
        snprintf(text, bytes, "fork-cow %d %d", PAGES_INTERPRETED, RUNS_INTERPRETED);
    else
        snprintf(text, bytes, "fork-cow %d %d", PAGES, RUNS);
}

/* The two address spaces of a checkpoint; the child's root is 0 once it is gone. */
struct pair {
    struct abi_process parent, child;
    uint64_t va, pages, writes;
};

static bool fork_cow_open_pair(struct tour_run *run, const struct abi_checkpoint *record,
                               const struct guest_view *view, struct pair *pair)
{
    const uint64_t *arg = record->arg;
    bool found;

    memset(pair, 0, sizeof(*pair));
    found = !guest_process(view, arg[ABI_FORK_COW_PARENT], &pair->parent);
    if (record->step != ABI_FORK_COW_REAPED)
        found = found && !guest_process(view, arg[ABI_FORK_COW_CHILD], &pair->child);
    pair->va = arg[ABI_FORK_COW_VA];
    pair->pages = arg[ABI_FORK_COW_PAGES];
    pair->writes = arg[ABI_FORK_COW_WRITES];
    found = found && pair->pages > 0 && pair->pages <= PAGES_MAX && pair->writes <= pair->pages;
    if (!found)
        check_true(run, false, "two processes and their pages", "neither", "step %" PRIu32,
                   record->step);
    return found;
}

static unsigned fork_cow_percent(const struct pair *pair)
{
    return (unsigned)(pair->writes * 100 / pair->pages);
}

static uint64_t fork_cow_first_word(const struct guest_view *view, uint64_t gpa)
{
    const uint64_t *word = memory_at(view->memory, gpa, sizeof(*word));

    return word ? *word : 0;
}

static void fork_cow_shared(struct tour_run *run, const struct guest_view *view,
                            const struct pair *pair)
{
    struct state *state = run->state;
    uint64_t same = 0, read_only = 0, counted = 0;
    struct guest_audit audit;

    for (uint64_t i = 0; i < pair->pages; i++) {
        uint64_t va = pair->va + i * ABI_PAGE_BYTES;
        struct paging_walk parent, child;

        state->gpa[i] = 0;
        if (guest_walk(view, pair->parent.root, va, &parent) ||
            guest_walk(view, pair->child.root, va, &child))
            continue;
        state->gpa[i] = child.leaf.gpa;
        same += parent.leaf.gpa == child.leaf.gpa;
        read_only += !parent.leaf.writable && !child.leaf.writable;
        counted += guest_frame(view, child.leaf.gpa).refs == 2;
    }
    check_equal(run, pair->pages, same, "%u %%: frames shared after fork", fork_cow_percent(pair));
    check_equal(run, pair->pages, read_only, "%u %%: pages read-only on both sides",
                fork_cow_percent(pair));
    check_equal(run, pair->pages, counted, "%u %%: frames with two references",
                fork_cow_percent(pair));
    check_audit(run, view, HELD_BY_OBJECT, "forked", &audit);
    state->pages = pair->pages;
    state->free_shared = view->kernel.free_frames;
    state->copies_shared = pair->child.cow_copies;
    state->faults_shared = pair->child.faults;
}

/* Which pages the child was to write: the host's own list. */
static void fork_cow_mark_written(const struct pair *pair, bool *written)
{
    memset(written, 0, PAGES_MAX * sizeof(*written));
    for (uint64_t i = 0; i < pair->writes; i++)
        written[ABI_FORK_COW_PAGE(i, pair->pages)] = true;
}

/* All of a copied page but its first word, which the child wrote. */
static bool fork_cow_same_rest(const struct guest_view *view, uint64_t gpa, uint64_t other)
{
    const char *a = memory_at(view->memory, gpa, ABI_PAGE_BYTES);
    const char *b = memory_at(view->memory, other, ABI_PAGE_BYTES);

    return a && b && !memcmp(a + 8, b + 8, ABI_PAGE_BYTES - 8);
}

static void fork_cow_written(struct tour_run *run, const struct guest_view *view,
                             const struct pair *pair)
{
    struct state *state = run->state;
    const bool *is_written = state->is_written;
    uint64_t private = 0, wrong = 0, moved = 0, parent_right = 0, child_right = 0, copied = 0;

    fork_cow_mark_written(pair, state->is_written);
    for (uint64_t i = 0; i < pair->pages; i++) {
        uint64_t va = pair->va + i * ABI_PAGE_BYTES;
        uint64_t word = is_written[i] ? ABI_FORK_COW_CHILD_WORD(i) : ABI_FORK_COW_PARENT_WORD(i);
        struct paging_walk parent, child;
        bool apart;

        if (guest_walk(view, pair->parent.root, va, &parent) ||
            guest_walk(view, pair->child.root, va, &child))
            continue;
        apart = child.leaf.gpa != parent.leaf.gpa;
        private += apart;
        wrong += apart != is_written[i];
        moved += parent.leaf.gpa != state->gpa[i];
        parent_right += fork_cow_first_word(view, parent.leaf.gpa) == ABI_FORK_COW_PARENT_WORD(i);
        child_right += fork_cow_first_word(view, child.leaf.gpa) == word;
        copied += fork_cow_same_rest(view, parent.leaf.gpa, child.leaf.gpa);
    }
    check_equal(run, pair->writes, private, "%u %%: pages private after the writes",
                fork_cow_percent(pair));
    check_equal(run, 0, wrong, "%u %%: pages private that were not written, or not",
                fork_cow_percent(pair));
    check_equal(run, 0, moved, "%u %%: the parent's frames moved", fork_cow_percent(pair));
    check_equal(run, pair->pages, parent_right, "%u %%: the parent's contents",
                fork_cow_percent(pair));
    check_equal(run, pair->pages, child_right, "%u %%: the child's contents",
                fork_cow_percent(pair));
    check_equal(run, pair->pages, copied, "%u %%: the rest of each page is a true copy",
                fork_cow_percent(pair));
    check_equal(run, pair->writes, pair->child.cow_copies - state->copies_shared,
                "%u %%: copy-on-write faults", fork_cow_percent(pair));
    state->cascade = pair->child.faults - state->faults_shared;
    check_equal(run, pair->writes, state->cascade, "%u %%: page faults of any kind",
                fork_cow_percent(pair));
    check_equal(run, pair->writes, state->free_shared - view->kernel.free_frames,
                "%u %%: frames taken", fork_cow_percent(pair));
}

static void fork_cow_reaped(struct tour_run *run, const struct guest_view *view,
                            const struct pair *pair)
{
    struct state *state = run->state;
    uint64_t sole = 0, right = 0;
    struct guest_audit audit;

    for (uint64_t i = 0; i < pair->pages; i++) {
        struct paging_walk parent;

        if (guest_walk(view, pair->parent.root, pair->va + i * ABI_PAGE_BYTES, &parent))
            continue;
        sole += parent.leaf.gpa == state->gpa[i] && guest_frame(view, state->gpa[i]).refs == 1;
        right += fork_cow_first_word(view, parent.leaf.gpa) == ABI_FORK_COW_PARENT_WORD(i);
    }
    check_equal(run, pair->pages, sole, "%u %%: frames the parent's alone again",
                fork_cow_percent(pair));
    check_equal(run, pair->pages, right, "%u %%: the parent's contents at the end",
                fork_cow_percent(pair));
    check_audit(run, view, HELD_BY_OBJECT, "reaped", &audit);
}

/* The child of a fork that copied at once: nothing is shared, and no write faulted. */
static void fork_cow_bulk(struct tour_run *run, const struct guest_view *view,
                          const struct pair *pair)
{
    struct state *state = run->state;
    uint64_t private = 0, copied = 0;
    struct guest_audit audit;

    for (uint64_t i = 0; i < pair->pages; i++) {
        uint64_t va = pair->va + i * ABI_PAGE_BYTES;
        struct paging_walk parent, child;

        if (guest_walk(view, pair->parent.root, va, &parent) ||
            guest_walk(view, pair->child.root, va, &child))
            continue;
        private += parent.leaf.gpa != child.leaf.gpa && child.leaf.writable &&
                   guest_frame(view, child.leaf.gpa).refs == 1;
        copied += fork_cow_same_rest(view, parent.leaf.gpa, child.leaf.gpa) &&
                  fork_cow_first_word(view, parent.leaf.gpa) == ABI_FORK_COW_PARENT_WORD(i) &&
                  fork_cow_first_word(view, child.leaf.gpa) == ABI_FORK_COW_CHILD_WORD(i);
    }
    state->bulk = pair->child.faults;
    check_equal(run, pair->pages, private, "bulk copy: pages private and writable");
    check_equal(run, pair->pages, copied, "bulk copy: contents on both sides");
    check_equal(run, 0, state->bulk, "bulk copy: page faults of any kind");
    check_audit(run, view, HELD_BY_OBJECT, "bulk copy", &audit);
}

static void fork_cow_timed(struct tour_run *run, const struct abi_checkpoint *record)
{
    const uint64_t *arg = record->arg;
    struct state *state = run->state;
    struct point point = {
        .writes = arg[ABI_FORK_COW_T_WRITES],
        .cow_ns = check_ticks_to_ns(run,
                                    arg[ABI_FORK_COW_T_COW_FORK] + arg[ABI_FORK_COW_T_COW_WRITE]),
        .eager_ns = check_ticks_to_ns(run, arg[ABI_FORK_COW_T_EAGER_FORK] +
                                               arg[ABI_FORK_COW_T_EAGER_WRITE]),
    };

    if (state->npoints == POINTS_MAX)
        return;
    state->point[state->npoints++] = point;
    check_add_figure(run, (double)point.writes, "writes_%zu", state->npoints);
    check_add_figure(run, point.cow_ns, "cow_%zu_ns", state->npoints);
    check_add_figure(run, point.eager_ns, "eager_%zu_ns", state->npoints);
}

static void fork_cow_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                                const struct guest_view *view)
{
    struct pair pair;

    if (record->step == ABI_FORK_COW_TIMED) {
        fork_cow_timed(run, record);
        return;
    }
    if (!fork_cow_open_pair(run, record, view, &pair))
        return;
    switch (record->step) {
    case ABI_FORK_COW_SHARED: fork_cow_shared(run, view, &pair); break;
    case ABI_FORK_COW_WRITTEN: fork_cow_written(run, view, &pair); break;
    case ABI_FORK_COW_REAPED: fork_cow_reaped(run, view, &pair); break;
    case ABI_FORK_COW_BULK: fork_cow_bulk(run, view, &pair); break;
    default: break;
    }
}

/*
 * The fraction of pages written at which copying at once becomes the cheaper way, by
 * straight lines between the points: percent, NAN if the curves do not cross.
 */
static double fork_cow_crossover(const struct state *state)
{
    for (size_t i = 0; i < state->npoints; i++) {
        const struct point *to = &state->point[i], *from = i ? to - 1 : to;
        double after = to->cow_ns - to->eager_ns, before = from->cow_ns - from->eager_ns;
        double share = after > before ? -before / (after - before) : 0;

        if (after < 0)
            continue;
        return 100.0 * ((double)from->writes + share * (double)(to->writes - from->writes)) /
               (double)state->pages;
    }
    return NAN;
}

/*
 * Whether copy-on-write helped a child that overwrites everything, in words: the whole
 * of it, fork and writes, against one bulk copy.
 */
static void fork_cow_verdict(struct tour_run *run, double crossover_percent, char *key,
                             size_t bytes)
{
    const struct state *state = run->state;
    const struct point *all = &state->point[state->npoints - 1];
    double ratio = all->cow_ns / all->eager_ns;
    char where[64] = "";

    check_add_figure(run, (double)state->cascade, "cascade_faults");
    check_add_figure(run, (double)state->bulk, "bulk_faults");
    check_add_figure(run, all->cow_ns, "cascade_ns");
    check_add_figure(run, all->eager_ns, "bulk_ns");
    check_add_figure(run, ratio, "cascade_to_bulk_ratio");
    if (ratio > 1 && crossover_percent > 0)
        snprintf(where, sizeof(where), "; it helps up to %.0f %%", crossover_percent);
    snprintf(key, bytes,
             "%" PRIu64 " pages, all written: %" PRIu64
             " COW faults take %.2f x the time of one bulk copy: %s%s",
             state->pages, state->cascade, ratio,
             ratio > 1 ? "COW backfired" : "COW helped even so", where);
}

static void fork_cow_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;
    double at = fork_cow_crossover(state);

    check_add_figure(run, (double)state->pages, "pages");
    check_add_figure(run, at, "crossover_percent");
    if (state->npoints && isfinite(state->point[0].cow_ns))
        fork_cow_verdict(run, at, key, bytes);
    else
        snprintf(key, bytes, "%" PRIu64 " pages, not timed", state->pages);
}

const struct tour_exercise tour_fork_cow = {
    .name = "fork-cow",
    .shows = "frames shared by fork, private by write, one fault each",
    .breaks = "fork leaves pages writable on both sides",
    .id = ABI_FORK_COW,
    .steps = ABI_FORK_COW_STEPS,
    .command = fork_cow_command,
    .checkpoint = fork_cow_checkpoint,
    .memory_map = { ABI_FORK_COW_WRITTEN, 4, "the child has written half of its pages" },
    .conclude = fork_cow_conclude,
    .state_bytes = sizeof(struct state),
};
