/*
 * demand-paging: a file on a slow disk, mapped by a program that draws sixty frames a second
 * and touches pages of it for each. Read when touched, every page is a fault that takes as
 * long as the disk, and a frame with many of them is missed; with read-ahead few of them are;
 * locked, none. Two processes that want the same page wait for one read; a page that the
 * disk cannot read ends in a fault of who touched it.
 *
 * The host has the file, and counts the disk's requests itself. Time is not judged, but for
 * two things that must be so: no request takes less than the disk's latency, and a frame
 * whose faults together take longer than a frame, was missed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "devices/virtio/blk.h"
#include "guest/abi/demand.h"
#include "guest/abi/syscall.h"
#include "vmm/launch/config.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define LATENCY_NS         2000000u
#define FRAMES             32u
#define FRAMES_INTERPRETED 12u
#define PERIOD_NS          (1000000000u / ABI_DEMAND_HZ)
#define SHARED_PAGES       1u /* of the processes' shared object, which holds them */
#define DISK               0  /* index in devices[] */
#define WORDS              (ABI_PAGE_BYTES / 8)
#define LAST_VA            0x00007fffffffffffull

enum { PLAIN, AHEAD, LOCKED, PHASES };

static const char *const phase_name[PHASES] = { "plain", "ahead", "locked" };

/* What one phase came to. */
struct phase {
    uint64_t requests, major, missed;
    uint64_t ntouches;
    double touch_ns[ABI_DEMAND_TOUCHES_MAX]; /* ascending */
};

struct state {
    int fd; /* of the file: its page frames are its own, and no other process has them */
    char path[32];
    /* At the last checkpoint. */
    struct virtio_blk_counts counts;
    struct abi_process process;
    uint64_t user_frames; /* at the first */
    struct phase phase[PHASES];
};

static uint64_t demand_frames_of(const struct tour_host *host)
{
    return host->interprets ? FRAMES_INTERPRETED : FRAMES;
}

static uint64_t demand_touches_of(const struct tour_host *host)
{
    uint64_t n = 0;

    for (uint64_t frame = 0; frame < demand_frames_of(host); frame++)
        n += ABI_DEMAND_TOUCHES_OF(frame);
    return n;
}

static void demand_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    snprintf(text, bytes, "demand-paging %" PRIu64 "%s", demand_frames_of(host),
             control ? " break" : "");
}

/* ---- The file --------------------------------------------------------------- */

static bool demand_write_pages(int fd, uint64_t first, uint64_t end)
{
    uint64_t word[WORDS];

    for (uint64_t page = first; page < end; page++) {
        for (uint64_t i = 0; i < WORDS; i++)
            word[i] = ABI_DEMAND_WORD(page * WORDS + i);
        if (pwrite(fd, word, sizeof(word), (off_t)(page * sizeof(word))) != sizeof(word))
            return false;
    }
    return true;
}

static void demand_machine(const struct tour_run *run, struct vm_config *config)
{
    struct state *state = run->state;
    struct config_device device;

    /* Where it cannot be made, the disk's path leads nowhere, which is told. */
    state->fd = memfd_create("strata-tour-disk", MFD_CLOEXEC);
    if (state->fd >= 0 && !demand_write_pages(state->fd, 0, ABI_DEMAND_PAGES)) {
        close(state->fd);
        state->fd = -1;
    }
    snprintf(state->path, sizeof(state->path), "/proc/self/fd/%d", state->fd);
    device = (struct config_device){
        .kind = DEVICE_BLK, .path = state->path, .read_only = true, .latency_ns = LATENCY_NS
    };
    config->devices[0] = device;
    config->ndevices = 1;
}

static void demand_end(struct tour_run *run)
{
    struct state *state = run->state;

    if (state->fd >= 0)
        close(state->fd);
}

static bool demand_is_as_file(const struct state *state, const struct guest_view *view,
                              uint64_t gpa, uint64_t page)
{
    const void *in_guest = memory_at(view->memory, gpa, ABI_PAGE_BYTES);
    char in_file[ABI_PAGE_BYTES];

    return in_guest &&
           pread(state->fd, in_file, sizeof(in_file), (off_t)(page * sizeof(in_file))) ==
               sizeof(in_file) &&
           !memcmp(in_guest, in_file, sizeof(in_file));
}

/* ---- What is mapped --------------------------------------------------------- */

struct mapped {
    uint64_t wanted, others; /* pages there: of [first, first + n), and of the rest */
    uint64_t right;          /* of all that are there: as the file is */
    uint64_t cached;         /* held by this mapping and the cache alone */
    uint64_t writable;
};

/* Pages of the mapping at va: those that are to be there. */
struct wanted {
    uint64_t root, va, first, n;
};

static struct mapped demand_look_at_pages(struct tour_run *run, const struct guest_view *view,
                                          const struct wanted *wanted)
{
    struct mapped mapped = { 0 };

    for (uint64_t page = 0; page < ABI_DEMAND_PAGES; page++) {
        struct paging_walk walk;

        if (guest_walk(view, wanted->root, wanted->va + page * ABI_PAGE_BYTES, &walk))
            continue;
        *(page - wanted->first < wanted->n ? &mapped.wanted : &mapped.others) += 1;
        mapped.right += demand_is_as_file(run->state, view, walk.leaf.gpa, page);
        mapped.cached += guest_frame(view, walk.leaf.gpa).refs == 2;
        mapped.writable += walk.leaf.writable;
    }
    return mapped;
}

static void demand_expect_pages(struct tour_run *run, const struct guest_view *view,
                                const struct wanted *wanted, const char *when)
{
    struct mapped mapped = demand_look_at_pages(run, view, wanted);

    check_equal(run, wanted->n, mapped.wanted, "%s: pages mapped, of those touched or locked",
                when);
    check_equal(run, 0, mapped.others, "%s: pages mapped, of all others", when);
    check_equal(run, wanted->n, mapped.right, "%s: mapped pages that hold what the file has there",
                when);
    check_equal(run, wanted->n, mapped.cached, "%s: held by the mapping and the page cache alone",
                when);
    check_equal(run, 0, mapped.writable, "%s: mapped writable", when);
}

/* ---- The disk, and time ----------------------------------------------------- */

static struct virtio_blk_counts demand_count(const struct tour_run *run)
{
    struct virtio_blk *blk = board_model(run->board, DISK, &virtio_blk_ops);
    struct virtio_blk_counts counts;

    dma_lock(blk->dma);
    counts = blk->counts;
    dma_unlock(blk->dma);
    return counts;
}

static void demand_expect_latency(struct tour_run *run, const struct virtio_blk_counts *counts,
                                  const char *when)
{
    char observed[64];

    snprintf(observed, sizeof(observed), "%" PRIu64 " ns", counts->shortest_ns);
    check_true(run, counts->shortest_ns >= LATENCY_NS, "2000000 ns or more", observed,
               "%s: the shortest of all requests, by the disk's clock", when);
}

static int demand_by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void demand_read_touches(struct tour_run *run, const struct guest_view *view, uint64_t root,
                                const uint64_t *arg, struct phase *phase)
{
    static uint64_t ticks[ABI_DEMAND_TOUCHES_MAX];
    uint64_t n = arg[ABI_DEMAND_TOUCHES];

    check_equal(run, demand_touches_of(run->host), n, "%s: pages that the program touched",
                phase_name[phase - ((struct state *)run->state)->phase]);
    if (n > ABI_DEMAND_TOUCHES_MAX ||
        guest_read(view, root, arg[ABI_DEMAND_TOUCHES_VA], ticks, n * sizeof(ticks[0])))
        n = 0;
    phase->ntouches = n;
    for (uint64_t i = 0; i < n; i++)
        phase->touch_ns[i] = check_ticks_to_ns(run, ticks[i]);
    qsort(phase->touch_ns, n, sizeof(phase->touch_ns[0]), demand_by_number);
}

/* Each frame that its faults alone have made too late says so. */
static void demand_read_frames(struct tour_run *run, const struct guest_view *view, uint64_t root,
                               const uint64_t *arg, struct phase *phase, const char *when)
{
    struct abi_demand_frame frame[ABI_DEMAND_FRAMES_MAX];
    uint64_t n = arg[ABI_DEMAND_FRAMES], late = 0, told = 0, major = 0;

    check_equal(run, demand_frames_of(run->host), n, "%s: frames drawn", when);
    if (n > ABI_DEMAND_FRAMES_MAX ||
        guest_read(view, root, arg[ABI_DEMAND_FRAMES_VA], frame, n * sizeof(frame[0])))
        return;
    for (uint64_t i = 0; i < n; i++) {
        bool must = (uint64_t)frame[i].major * LATENCY_NS > PERIOD_NS;

        phase->missed += frame[i].missed != 0;
        major += frame[i].major;
        late += must;
        told += must && frame[i].missed;
    }
    check_equal(run, phase->major, major, "%s: major faults, by frames", when);
    /* Without the frequency of its clock the guest's idea of a sixtieth is a guess. */
    if (run->tsc_hz)
        check_equal(run, late, told, "%s: missed, of the frames whose faults take too long", when);
}

/* ---- The steps -------------------------------------------------------------- */

static void demand_before(struct tour_run *run, const struct guest_view *view)
{
    struct state *state = run->state;
    struct guest_audit audit;

    check_audit(run, view, SHARED_PAGES, "before", &audit);
    check_equal(run, 0, view->kernel.cached_frames, "before: pages in the page cache");
    state->user_frames = audit.claimed_frames;
}

static void demand_mapped_only(struct tour_run *run, const struct guest_view *view,
                               const struct abi_process *now, const uint64_t *arg,
                               const struct virtio_blk_counts *counts)
{
    const struct state *state = run->state;

    check_equal(run, state->process.vsz_bytes + ABI_DEMAND_BYTES, now->vsz_bytes,
                "mapped: the program's VSZ");
    check_equal(run, 0, counts->reads, "mapped: requests of the disk");
    demand_expect_pages(run, view, &(struct wanted){ now->root, arg[ABI_DEMAND_VA], 0, 0 },
                        "mapped");
    if (run->tsc_hz)
        check_equal(run, run->tsc_hz / ABI_DEMAND_HZ, arg[ABI_DEMAND_PERIOD],
                    "mapped: ticks from frame to frame");
}

/* After a loop: what the kernel claims is what the disk has seen. */
static void demand_drawn(struct tour_run *run, const struct guest_view *view,
                         const struct abi_process *now, const uint64_t *arg,
                         const struct virtio_blk_counts *counts, unsigned which)
{
    struct state *state = run->state;
    struct phase *phase = &state->phase[which];
    const char *name = phase_name[which];
    uint64_t touched = demand_touches_of(run->host);

    phase->requests = counts->reads - state->counts.reads;
    phase->major = now->major_faults - state->process.major_faults;
    check_equal(run, phase->major, phase->requests,
                "%s: requests of the disk, against major faults claimed", name);
    check_equal(run, 0, now->joined_faults - state->process.joined_faults,
                "%s: faults that waited for the read of another", name);
    check_equal(run, 0, arg[ABI_DEMAND_WRONG], "%s: pages that the program found wrong", name);
    demand_read_touches(run, view, now->root, arg, phase);
    demand_read_frames(run, view, now->root, arg, phase, name);
    if (which == LOCKED) {
        check_equal(run, 0, phase->major, "locked: major faults in the loop");
        check_equal(run, state->process.faults, now->faults,
                    "locked: page faults of any kind before and after the loop");
        return;
    }
    demand_expect_pages(
        run, view, &(struct wanted){ now->root, arg[ABI_DEMAND_VA], ABI_DEMAND_FIRST, touched },
        name);
    check_equal(run, view->kernel.cached_frames * ABI_PAGE_BYTES,
                counts->read_bytes - state->counts.read_bytes,
                "%s: bytes that the disk read, against the page cache", name);
    demand_expect_latency(run, counts, name);
}

static void demand_plain(struct tour_run *run, const struct guest_view *view, const uint64_t *arg)
{
    const struct phase *phase = &((struct state *)run->state)->phase[PLAIN];
    uint64_t touched = demand_touches_of(run->host), heavy = demand_frames_of(run->host) / 4;
    char observed[64];

    check_equal(run, touched, phase->major, "plain: major faults, one for each page touched");
    check_equal(run, touched, view->kernel.cached_frames, "plain: pages in the page cache");
    snprintf(observed, sizeof(observed), "%" PRIu64, phase->missed);
    if (run->tsc_hz)
        check_true(run, phase->missed >= heavy, "every fourth or more", observed,
                   "plain: frames missed");
    snprintf(observed, sizeof(observed), "%" PRIu64 " of %" PRIu64, arg[ABI_DEMAND_OTHER_RAN],
             touched);
    check_true(run, arg[ABI_DEMAND_OTHER_RAN] * 2 >= touched, "half of them or more", observed,
               "plain: faults during which another process of this CPU ran");
}

static void demand_ahead(struct tour_run *run)
{
    const struct phase *phase = ((struct state *)run->state)->phase;
    char observed[64];

    snprintf(observed, sizeof(observed), "%" PRIu64 " against %" PRIu64, phase[AHEAD].requests,
             phase[PLAIN].requests);
    check_true(run, phase[AHEAD].requests * 4 <= phase[PLAIN].requests, "a quarter or less",
               observed, "ahead: requests, against those without read-ahead");
}

static void demand_locked(struct tour_run *run, const struct guest_view *view,
                          const struct abi_process *now, const uint64_t *arg,
                          const struct virtio_blk_counts *counts)
{
    const struct state *state = run->state;

    demand_expect_pages(run, view,
                        &(struct wanted){ now->root, arg[ABI_DEMAND_VA], 0, ABI_DEMAND_PAGES },
                        "locked");
    check_equal(run, ABI_DEMAND_BYTES, counts->read_bytes - state->counts.read_bytes,
                "locked: bytes that the disk read");
    check_equal(run, state->process.major_faults, now->major_faults,
                "locked: major faults before and after");
    check_equal(run, ABI_EINVAL, arg[ABI_DEMAND_KEPT], "locked: error of giving pages back");
}

static void demand_shared(struct tour_run *run, const struct guest_view *view,
                          const struct abi_process *now, const uint64_t *arg,
                          const struct virtio_blk_counts *counts)
{
    const struct state *state = run->state;
    uint64_t same = 0, right = 0, joined = now->joined_faults - state->process.joined_faults;
    uint64_t va = arg[ABI_DEMAND_VA] + ABI_DEMAND_TWIN_FIRST * ABI_PAGE_BYTES;
    struct paging_walk mine, other;
    struct abi_process twin;
    char observed[64];

    if (guest_process(view, arg[ABI_DEMAND_TWIN], &twin)) {
        check_true(run, false, "there", "not there", "shared: the second process");
        return;
    }
    joined += twin.joined_faults;
    check_equal(run, ABI_DEMAND_TWIN_PAGES, counts->reads - state->counts.reads,
                "shared: requests of the disk for pages that two touched at once");
    check_equal(run, ABI_DEMAND_TWIN_PAGES,
                now->major_faults - state->process.major_faults + twin.major_faults,
                "shared: major faults of the two");
    snprintf(observed, sizeof(observed), "%" PRIu64, joined);
    check_true(run, joined > 0, "1 or more", observed,
               "shared: faults that waited for the read of the other");
    for (uint64_t i = 0; i < ABI_DEMAND_TWIN_PAGES; i++, va += ABI_PAGE_BYTES) {
        if (guest_walk(view, now->root, va, &mine) || guest_walk(view, twin.root, va, &other))
            continue;
        right += demand_is_as_file(state, view, mine.leaf.gpa, ABI_DEMAND_TWIN_FIRST + i);
        if (mine.leaf.gpa == other.leaf.gpa)
            same++;
        else if (i == 0)
            check_true(run,
                       other.leaf.writable && !mine.leaf.writable &&
                           !demand_is_as_file(state, view, other.leaf.gpa, ABI_DEMAND_TWIN_FIRST),
                       "writable, and no longer as the file is",
                       other.leaf.writable ? "writable" : "read-only",
                       "shared: the page that the second process wrote, as it has it");
    }
    check_equal(run, ABI_DEMAND_TWIN_PAGES - 1, same, "shared: pages in one frame for both");
    check_equal(run, ABI_DEMAND_TWIN_PAGES, right,
                "shared: pages of the first process, as the file is");
    check_equal(run, ABI_DEMAND_TWIN_PAGES, view->kernel.cached_frames,
                "shared: pages in the page cache");
}

/* The disk's last page goes away, or comes back. */
static void demand_set_pages(struct tour_run *run, uint64_t pages)
{
    struct state *state = run->state;
    bool done = !ftruncate(state->fd, (off_t)(pages * ABI_PAGE_BYTES)) &&
                (pages < ABI_DEMAND_PAGES ||
                 demand_write_pages(state->fd, ABI_DEMAND_PAGES - 1, ABI_DEMAND_PAGES));

    check_true(run, done, "done", done ? "done" : strerror(errno),
               "the file gets a length of %" PRIu64 " pages", pages);
}

/*
 * Of the pages read together with it one is missing: read alone, the good one comes, and the
 * bad one is told.
 */
static void demand_broken(struct tour_run *run, const struct guest_view *view,
                          const struct abi_process *now, const uint64_t *arg,
                          const struct virtio_blk_counts *counts)
{
    const struct state *state = run->state;
    uint64_t bad = arg[ABI_DEMAND_VA] + (ABI_DEMAND_PAGES - 1) * ABI_PAGE_BYTES;

    check_equal(run, 0, arg[ABI_DEMAND_GOOD], "broken: fault at the page beside the lost one");
    check_equal(run, ABI_FAULT_IO, arg[ABI_DEMAND_BAD], "broken: fault at the lost page");
    check_hex(run, bad, arg[ABI_DEMAND_BAD_VA], "broken: its address, as the program was told");
    check_hex(run, bad, now->last_fault.va, "broken: its address, as the kernel noted it");
    check_equal(run, 2, counts->failed - state->counts.failed, "broken: requests that failed");
    check_equal(run, 3, counts->reads - state->counts.reads, "broken: requests");
    demand_expect_pages(run, view,
                        &(struct wanted){ now->root, arg[ABI_DEMAND_VA], ABI_DEMAND_PAGES - 2, 1 },
                        "broken");
    check_equal(run, 1, view->kernel.cached_frames, "broken: pages in the page cache");
}

static void demand_gone(struct tour_run *run, const struct guest_view *view)
{
    const struct state *state = run->state;
    struct guest_audit audit;

    check_audit(run, view, SHARED_PAGES, "gone", &audit);
    check_equal(run, 0, view->kernel.cached_frames, "gone: pages in the page cache");
    check_equal(run, state->user_frames, audit.claimed_frames,
                "gone: frames of user memory, as before");
}

static void demand_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                              const struct guest_view *view)
{
    struct state *state = run->state;
    const uint64_t *arg = record->arg;
    struct virtio_blk_counts counts;
    struct abi_process now;

    if (!board_model(run->board, DISK, &virtio_blk_ops) || guest_process(view, record->pid, &now) ||
        arg[ABI_DEMAND_VA] > LAST_VA) {
        check_true(run, false, "a disk and a process", "not so", "the machine");
        return;
    }
    counts = demand_count(run);
    switch (record->step) {
    case ABI_DEMAND_BEFORE: demand_before(run, view); break;
    case ABI_DEMAND_MAPPED: demand_mapped_only(run, view, &now, arg, &counts); break;
    case ABI_DEMAND_PLAIN:
        demand_drawn(run, view, &now, arg, &counts, PLAIN);
        demand_plain(run, view, arg);
        break;
    case ABI_DEMAND_AHEAD:
        demand_drawn(run, view, &now, arg, &counts, AHEAD);
        demand_ahead(run);
        break;
    case ABI_DEMAND_LOCKED: demand_locked(run, view, &now, arg, &counts); break;
    case ABI_DEMAND_STEADY: demand_drawn(run, view, &now, arg, &counts, LOCKED); break;
    case ABI_DEMAND_SHARED: demand_shared(run, view, &now, arg, &counts); break;
    case ABI_DEMAND_CUT: demand_set_pages(run, ABI_DEMAND_PAGES - 1); break;
    case ABI_DEMAND_BROKEN:
        demand_broken(run, view, &now, arg, &counts);
        demand_set_pages(run, ABI_DEMAND_PAGES);
        break;
    case ABI_DEMAND_MENDED:
        check_equal(run, 0, arg[ABI_DEMAND_BAD], "mended: fault at the page that came back");
        demand_expect_pages(
            run, view, &(struct wanted){ now.root, arg[ABI_DEMAND_VA], ABI_DEMAND_PAGES - 2, 2 },
            "mended");
        break;
    case ABI_DEMAND_GONE: demand_gone(run, view); break;
    default: break;
    }
    state->counts = counts;
    state->process = now;
}

/* ---- Figures ---------------------------------------------------------------- */

static double demand_percentile(const struct phase *phase, unsigned percent)
{
    uint64_t n = phase->ntouches, rank = (n * percent + 99) / 100;

    return n ? phase->touch_ns[rank ? rank - 1 : 0] : 0;
}

/* Touches by time: from 2^k ns up to 2^(k+1), where there were any. */
static void demand_add_histogram(struct tour_run *run, const struct phase *phase, const char *name)
{
    uint64_t i = 0;

    for (unsigned k = 0; k < 40; k++) {
        double limit = (double)(2ull << k);
        uint64_t n = 0;

        for (; i < phase->ntouches && phase->touch_ns[i] < limit; i++)
            n++;
        if (n)
            check_add_figure(run, (double)n, "%s_touch_from_%llu_ns_count", name,
                             k ? 1ull << k : 0);
    }
}

static void demand_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;
    const struct phase *phase = state->phase;

    check_add_figure(run, (double)ABI_DEMAND_BYTES, "file_bytes");
    check_add_figure(run, LATENCY_NS, "disk_latency_ns");
    check_add_figure(run, (double)state->counts.shortest_ns, "request_min_ns");
    check_add_figure(run, (double)demand_frames_of(run->host), "frames");
    for (unsigned i = 0; i < PHASES; i++) {
        check_add_figure(run, (double)phase[i].ntouches, "%s_touches", phase_name[i]);
        check_add_figure(run, (double)phase[i].major, "%s_major_faults", phase_name[i]);
        check_add_figure(run, (double)phase[i].requests, "%s_requests", phase_name[i]);
        check_add_figure(run, (double)phase[i].missed, "%s_missed_frames", phase_name[i]);
        check_add_figure(run, demand_percentile(&phase[i], 50), "%s_touch_p50_ns", phase_name[i]);
        check_add_figure(run, demand_percentile(&phase[i], 99), "%s_touch_p99_ns", phase_name[i]);
        check_add_figure(run, demand_percentile(&phase[i], 100), "%s_touch_max_ns", phase_name[i]);
        demand_add_histogram(run, &phase[i], phase_name[i]);
    }
    snprintf(key, bytes,
             "%" PRIu64 " pages in %" PRIu64 " frames of 1/60 s: %" PRIu64 "/%" PRIu64 "/%" PRIu64
             " major faults, p99 %.1f/%.1f/%.3f ms, %" PRIu64 "/%" PRIu64 "/%" PRIu64
             " missed (plain/read-ahead/locked)",
             phase[PLAIN].ntouches, demand_frames_of(run->host), phase[PLAIN].major,
             phase[AHEAD].major, phase[LOCKED].major, demand_percentile(&phase[PLAIN], 99) / 1e6,
             demand_percentile(&phase[AHEAD], 99) / 1e6,
             demand_percentile(&phase[LOCKED], 99) / 1e6, phase[PLAIN].missed, phase[AHEAD].missed,
             phase[LOCKED].missed);
}

const struct tour_exercise tour_demand = {
    .name = "demand-paging",
    .shows = "a touch that waits for the disk, unless the page is locked",
    .breaks = "locking does nothing, pages read for a fault have a wrong byte",
    .id = ABI_DEMAND,
    .steps = ABI_DEMAND_STEPS,
    .machine = demand_machine,
    .command = demand_command,
    .checkpoint = demand_checkpoint,
    .memory_map = { ABI_DEMAND_SHARED, 1, "two processes have touched the same pages of a disk" },
    .conclude = demand_conclude,
    .end = demand_end,
    .state_bytes = sizeof(struct state),
};
