/*
 * reclaim: half of what a program has filled is given back by madvise. Its RSS falls, its VSZ
 * does not; the frames are free; and through the balloon's page reporting the host gets its
 * memory back, as much as that was, but for a page that a device has mapped. Touched again,
 * all of it is there and zero. In a machine without a balloon the host gets nothing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/virtio/balloon.h"
#include "guest/abi/reclaim.h"
#include "vmm/inspect/resident.h"
#include "vmm/launch/config.h"
#include "vmm/machine/vm.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define MACHINE_BALLOON 0 /* with a balloon, an IOMMU and a probe, */
#define MACHINE_PLAIN   1 /* and with none of them */
#define ENDPOINT        5
#define BALLOON         1 /* index in devices[] */
#define TOLERANCE       0.02

#define MIB_INTERPRETED 2 /* by 4K pages: each is a fault that is interpreted, */
#define MIB             8
#define MIB_HUGE        64u /* and by 2M pages */
#define PAGES_MAX       (((MIB + MIB_HUGE) << 20) / 4096)

#define STAT_TOTAL      5 /* virtio 1.2, 5.5.6.3 */

struct state {
    uint64_t gpa[PAGES_MAX]; /* of each 4K of the given halves, when they were filled */
    uint64_t n, pinned;      /* how many; GPA of the pinned one */
    struct abi_process process;
    int64_t resident;     /* bytes of guest RAM when filled */
    int64_t fell[2];      /* by how much it fell, in each machine */
    uint64_t back;        /* pages in frames that the host had */
    uint64_t stats;       /* updates */
    uint64_t free_frames; /* when all was touched again */
    double advice_ns;
};

static const struct config_device devices[] = {
    { .kind = DEVICE_PROBE, .endpoint = ENDPOINT },
    [BALLOON] = { .kind = DEVICE_BALLOON, .endpoint = ENDPOINT + 1 },
};

static uint64_t reclaim_small_bytes(const struct tour_host *host)
{
    return (uint64_t)(host->interprets ? MIB_INTERPRETED : MIB) << 20;
}

static uint64_t reclaim_all_pages(const struct tour_run *run)
{
    return (reclaim_small_bytes(run->host) + ((uint64_t)MIB_HUGE << 20)) / ABI_PAGE_BYTES;
}

static void reclaim_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    snprintf(text, bytes, "reclaim %u %u%s", (unsigned)(reclaim_small_bytes(host) >> 20), MIB_HUGE,
             control ? " break" : "");
}

static void reclaim_machine(const struct tour_run *run, struct vm_config *config)
{
    /* Huge pages where the host has them: the host's part of a fault is slow on some hosts. */
    config->huge_pages = MEMORY_THP;
    if (run->machine != MACHINE_BALLOON)
        return;
    memcpy(config->devices, devices, sizeof(devices));
    config->ndevices = sizeof(devices) / sizeof(devices[0]);
    config->iommu = VM_IOMMU_STRICT;
}

/* The two regions of a checkpoint. */
struct region {
    uint64_t va, bytes;
};

static bool reclaim_regions(struct tour_run *run, const uint64_t *arg, struct region region[2])
{
    region[0] = (struct region){ arg[ABI_RECLAIM_VA], arg[ABI_RECLAIM_BYTES] };
    region[1] = (struct region){ arg[ABI_RECLAIM_HUGE_VA], arg[ABI_RECLAIM_HUGE_BYTES] };
    if (region[0].bytes == reclaim_small_bytes(run->host) && region[1].bytes == MIB_HUGE << 20)
        return true;
    check_equal(run, reclaim_all_pages(run) * ABI_PAGE_BYTES, region[0].bytes + region[1].bytes,
                "bytes filled");
    return false;
}

/* The written words of a 4K page at this GPA that are as the program wrote them, and zero. */
static void reclaim_count_words(const struct guest_view *view, uint64_t gpa, uint64_t offset,
                                uint64_t *right, uint64_t *zero)
{
    const char *page = memory_at(view->memory, gpa, ABI_PAGE_BYTES);
    uint64_t word;

    for (uint64_t at = 0; page && at < ABI_PAGE_BYTES; at += ABI_RECLAIM_STRIDE) {
        memcpy(&word, page + at, sizeof(word));
        *right += word == ABI_RECLAIM_WORD((offset + at) / ABI_RECLAIM_STRIDE);
        *zero += word == 0;
    }
}

/*
 * The GPA of the 4K page at `va`, from the last walk where that found a 2M page around it;
 * false: not mapped.
 */
static bool reclaim_next_page(const struct guest_view *view, uint64_t root, uint64_t va,
                              struct paging_walk *walk, uint64_t *gpa)
{
    bool inside = walk->leaf.page_bytes && va - walk->leaf.va < walk->leaf.page_bytes;

    if (!inside && guest_walk(view, root, va, walk)) {
        walk->leaf.page_bytes = 0;
        return false;
    }
    *gpa = walk->leaf.gpa + (va - walk->leaf.va);
    return true;
}

static int64_t reclaim_resident_ram(struct tour_run *run, const char *when)
{
    struct resident resident;
    int err = resident_read(&run->vm->memory, &resident);

    if (err)
        check_true(run, false, "a number", strerror(-err), "%s: Rss of guest RAM in smaps", when);
    return err ? err : (int64_t)resident.rss_bytes;
}

static void reclaim_filled(struct tour_run *run, const struct guest_view *view, const uint64_t *arg,
                           const struct region region[2])
{
    struct state *state = run->state;
    uint64_t right = 0, zero = 0, found = 0;

    state->n = 0;
    state->pinned = 0;
    for (unsigned r = 0; r < 2; r++) {
        struct paging_walk walk = { 0 };

        for (uint64_t at = 0; at < region[r].bytes; at += ABI_PAGE_BYTES) {
            uint64_t gpa;

            if (!reclaim_next_page(view, state->process.root, region[r].va + at, &walk, &gpa))
                continue;
            found++;
            reclaim_count_words(view, gpa, at, &right, &zero);
            if (at < region[r].bytes / 2)
                continue;
            state->gpa[state->n++] = gpa;
            if (region[r].va + at == arg[ABI_RECLAIM_PINNED_VA])
                state->pinned = gpa;
        }
    }
    check_equal(run, reclaim_all_pages(run), found, "filled: pages mapped");
    check_equal(run, reclaim_all_pages(run) * (ABI_PAGE_BYTES / ABI_RECLAIM_STRIDE), right,
                "filled: words as the program wrote them");
    state->resident = reclaim_resident_ram(run, "filled");
    check_true(run, state->resident >= (int64_t)(reclaim_all_pages(run) * ABI_PAGE_BYTES),
               "as much or more",
               state->resident >= (int64_t)(reclaim_all_pages(run) * ABI_PAGE_BYTES)
                   ? "as much or more"
                   : "less",
               "filled: Rss of guest RAM");
    if (run->machine == MACHINE_BALLOON)
        check_true(run, state->pinned != 0, "mapped", state->pinned ? "mapped" : "not",
                   "filled: a page for the device");
}

/* What the kernel, and what the host, have of the frames that were given. */
static void reclaim_look_at_frames(struct tour_run *run, const struct guest_view *view,
                                   const char *when)
{
    const struct state *state = run->state;
    /* Of all that were given the device's page alone, or without a balloon each. */
    uint64_t in_use = 0, expected = run->machine == MACHINE_BALLOON ? 1 : state->n;

    for (uint64_t i = 0; i < state->n; i++) {
        struct abi_frame frame = guest_frame(view, state->gpa[i]);

        if (state->gpa[i] == state->pinned)
            continue;
        in_use += frame.kind != ABI_FRAME_FREE || frame.refs != 0;
    }
    check_equal(run, 0, in_use, "%s: frames given back that are in use", when);
    check_equal(run, expected, (uint64_t)resident_pages(view->memory, state->gpa, state->n),
                "%s: of all frames unmapped, in the host's memory", when);
}

static void reclaim_look_at_pinned(struct tour_run *run, const struct guest_view *view,
                                   uint64_t offset)
{
    const struct state *state = run->state;
    struct abi_frame frame = guest_frame(view, state->pinned);
    bool held = iommu_pinned(board_iommu(run->board), state->pinned, ABI_PAGE_BYTES);
    uint64_t right = 0, zero = 0;

    check_true(run, held, "pinned", held ? "pinned" : "not pinned",
               "given: the device's page, as the IOMMU has it");
    check_equal(run, 1, frame.refs, "given: the device's page, references to its frame");
    check_equal(run, 1, frame.pins, "given: the device's page, pins");
    check_equal(run, 1, (uint64_t)resident_pages(view->memory, &state->pinned, 1),
                "given: the device's page, in the host's memory");
    reclaim_count_words(view, state->pinned, offset, &right, &zero);
    check_equal(run, ABI_PAGE_BYTES / ABI_RECLAIM_STRIDE, right,
                "given: the device's page, words as they were");
}

static void reclaim_expect_fell(struct tour_run *run)
{
    struct state *state = run->state;
    double bytes = (double)(state->n - (state->pinned ? 1 : 0)) * ABI_PAGE_BYTES;
    double fell = (double)(state->resident - reclaim_resident_ram(run, "given"));
    bool falls = run->machine == MACHINE_BALLOON;
    char expected[64], observed[64];

    state->fell[run->machine] = (int64_t)fell;
    snprintf(expected, sizeof(expected), "%.0f bytes, 2 %% more or less", falls ? bytes : 0.0);
    snprintf(observed, sizeof(observed), "%.0f bytes", fell);
    check_true(run,
               fell <= (falls ? bytes : 0) + TOLERANCE * bytes &&
                   fell >= (falls ? bytes : 0) - TOLERANCE * bytes,
               expected, observed, "given: fall of the host's RSS of guest RAM, %s a balloon",
               falls ? "with" : "without");
}

static void reclaim_given(struct tour_run *run, const struct guest_view *view, const uint64_t *arg,
                          const struct region region[2], const struct abi_process *now)
{
    struct state *state = run->state;
    const struct virtio_balloon *balloon = board_model(run->board, BALLOON, &virtio_balloon_ops);
    uint64_t mapped = 0, kept = 0, right = 0, zero = 0;
    struct guest_audit audit;

    reclaim_expect_fell(run);
    for (unsigned r = 0; r < 2; r++) {
        struct paging_walk walk = { 0 };

        for (uint64_t at = 0; at < region[r].bytes; at += ABI_PAGE_BYTES) {
            uint64_t gpa;

            if (!reclaim_next_page(view, state->process.root, region[r].va + at, &walk, &gpa))
                continue;
            if (at >= region[r].bytes / 2) {
                mapped++;
                continue;
            }
            kept++;
            reclaim_count_words(view, gpa, at, &right, &zero);
        }
    }
    check_equal(run, 0, mapped, "given: pages of the given halves still mapped");
    check_equal(run, reclaim_all_pages(run) / 2, kept, "given: pages of the other halves mapped");
    check_equal(run, reclaim_all_pages(run) / 2 * (ABI_PAGE_BYTES / ABI_RECLAIM_STRIDE), right,
                "given: their words as the program wrote them");
    check_equal(run, state->process.vsz_bytes, now->vsz_bytes, "given: the program's VSZ");
    check_equal(run, state->process.rss_frames - reclaim_all_pages(run) / 2, now->rss_frames,
                "given: the program's RSS in frames");
    reclaim_look_at_frames(run, view, "given");
    check_audit(run, view, state->pinned ? 1 : 0, "given", &audit);
    if (run->machine != MACHINE_BALLOON)
        return;
    reclaim_look_at_pinned(run, view, arg[ABI_RECLAIM_PINNED_VA] - region[0].va);
    check_true(run, balloon->counts.reported_bytes >= (state->n - 1) * ABI_PAGE_BYTES, "all of it",
               balloon->counts.reported_bytes ? "not all" : "nothing",
               "given: bytes that the driver reported");
    check_equal(run, 0, balloon->counts.pinned_pages,
                "given: reported pages that a device has mapped");
    check_equal(run, 0, balloon->counts.bad_ranges, "given: reported ranges that are no RAM");
    state->advice_ns = check_ticks_to_ns(run, arg[ABI_RECLAIM_TICKS]);
    state->stats = balloon->counts.stats_updates;
    check_equal(
        run, 0,
        (uint64_t)-virtio_balloon_ask_stats(board_model(run->board, BALLOON, &virtio_balloon_ops)),
        "given: error of asking for statistics");
}

static int reclaim_by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void reclaim_touched(struct tour_run *run, const struct guest_view *view,
                            const uint64_t *arg, const struct region region[2],
                            const struct abi_process *now)
{
    struct state *state = run->state;
    struct virtio_balloon *balloon = board_model(run->board, BALLOON, &virtio_balloon_ops);
    uint64_t mapped = 0, right = 0, zero = 0;

    qsort(state->gpa, state->n, sizeof(state->gpa[0]), reclaim_by_number);
    for (unsigned r = 0; r < 2; r++) {
        struct paging_walk walk = { 0 };

        for (uint64_t at = region[r].bytes / 2; at < region[r].bytes; at += ABI_PAGE_BYTES) {
            uint64_t gpa;

            if (!reclaim_next_page(view, state->process.root, region[r].va + at, &walk, &gpa))
                continue;
            mapped++;
            reclaim_count_words(view, gpa, at, &right, &zero);
            state->back += bsearch(&gpa, state->gpa, state->n, sizeof(state->gpa[0]),
                                   reclaim_by_number) != NULL;
        }
    }
    check_equal(run, reclaim_all_pages(run) / 2, mapped, "touched: pages mapped again");
    check_equal(run, reclaim_all_pages(run) / 2 * (ABI_PAGE_BYTES / ABI_RECLAIM_STRIDE), zero,
                "touched: words that are zero");
    check_equal(run, 0, arg[ABI_RECLAIM_NONZERO], "touched: words that the program saw not zero");
    check_true(run, state->back >= reclaim_all_pages(run) / 4, "most of them",
               state->back >= reclaim_all_pages(run) / 4 ? "most of them" : "few or none",
               "touched: in frames that the host had back");
    check_equal(run, state->process.rss_frames, now->rss_frames, "touched: the program's RSS");
    state->free_frames = view->kernel.free_frames;
    virtio_balloon_set_target(balloon, ABI_RECLAIM_BALLOON_PAGES);
}

static void reclaim_inflated(struct tour_run *run, const struct guest_view *view)
{
    const struct state *state = run->state;
    struct virtio_balloon *balloon = board_model(run->board, BALLOON, &virtio_balloon_ops);

    check_equal(run, ABI_RECLAIM_BALLOON_PAGES, balloon->state.actual_pages,
                "inflated: pages in the balloon");
    /* The device's page has become free meanwhile. */
    check_equal(run, state->free_frames - ABI_RECLAIM_BALLOON_PAGES + 1, view->kernel.free_frames,
                "inflated: the kernel's free frames");
    check_equal(run, ABI_RECLAIM_BALLOON_PAGES * ABI_PAGE_BYTES, balloon->counts.inflated_bytes,
                "inflated: bytes that the host has back");
    check_equal(run, 0, guest_frame(view, state->pinned).pins,
                "inflated: pins of the device's page");
    /* They were asked for before; the driver answers in the order of its interrupts. */
    check_true(run, balloon->counts.stats_updates > state->stats, "new",
               balloon->counts.stats_updates > state->stats ? "new" : "none",
               "inflated: statistics that the host asked for");
    check_equal(run, run->host->memory_bytes, balloon->counts.stats[STAT_TOTAL],
                "inflated: total memory in the statistics");
    virtio_balloon_set_target(balloon, 0);
}

static void reclaim_deflated(struct tour_run *run, const struct guest_view *view)
{
    const struct state *state = run->state;
    const struct virtio_balloon *balloon = board_model(run->board, BALLOON, &virtio_balloon_ops);

    check_equal(run, 0, balloon->state.actual_pages, "deflated: pages in the balloon");
    check_equal(run, state->free_frames + 1, view->kernel.free_frames,
                "deflated: the kernel's free frames");
    check_equal(run, 0, balloon->counts.pinned_pages,
                "deflated: pages given up that a device had mapped");
}

static void reclaim_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                               const struct guest_view *view)
{
    struct state *state = run->state;
    struct abi_process now;
    struct region region[2];

    if (run->machine == MACHINE_BALLOON &&
        (!board_model(run->board, BALLOON, &virtio_balloon_ops) || !board_iommu(run->board))) {
        check_true(run, false, "a balloon and an IOMMU", "none", "the machine");
        return;
    }
    if (guest_process(view, record->pid, &now) || !reclaim_regions(run, record->arg, region))
        return;
    if (record->step == ABI_RECLAIM_FILLED)
        state->process = now;
    if (record->step > ABI_RECLAIM_GIVEN && !board_model(run->board, BALLOON, &virtio_balloon_ops))
        return;
    switch (record->step) {
    case ABI_RECLAIM_FILLED: reclaim_filled(run, view, record->arg, region); break;
    case ABI_RECLAIM_GIVEN: reclaim_given(run, view, record->arg, region, &now); break;
    case ABI_RECLAIM_TOUCHED: reclaim_touched(run, view, record->arg, region, &now); break;
    case ABI_RECLAIM_INFLATED: reclaim_inflated(run, view); break;
    case ABI_RECLAIM_DEFLATED: reclaim_deflated(run, view); break;
    default: break;
    }
}

static void reclaim_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;

    check_add_figure(run, (double)reclaim_all_pages(run) * ABI_PAGE_BYTES, "filled_bytes");
    check_add_figure(run, (double)state->n * ABI_PAGE_BYTES, "given_bytes");
    check_add_figure(run, (double)state->fell[MACHINE_BALLOON], "host_fell_bytes");
    check_add_figure(run, (double)state->fell[MACHINE_PLAIN], "host_fell_without_balloon_bytes");
    check_add_figure(run, (double)state->back, "reused_frames");
    check_add_figure(run, state->advice_ns, "madvise_ns");
    snprintf(key, bytes,
             "of %.0f MiB %.1f MiB back at the host, %.1f without a balloon; madvise %.1f ms",
             (double)reclaim_all_pages(run) * ABI_PAGE_BYTES / (1 << 20),
             (double)state->fell[MACHINE_BALLOON] / (1 << 20),
             (double)state->fell[MACHINE_PLAIN] / (1 << 20), state->advice_ns / 1e6);
}

const struct tour_exercise tour_reclaim = {
    .name = "reclaim",
    .shows = "memory given back reaches the host, but not a device's page",
    .breaks = "madvise does nothing",
    .id = ABI_RECLAIM,
    .steps = ABI_RECLAIM_STEPS,
    .machines = 2,
    .machine = reclaim_machine,
    .command = reclaim_command,
    .checkpoint = reclaim_checkpoint,
    .memory_map = { ABI_RECLAIM_GIVEN, 1, "half of the memory was given back" },
    .conclude = reclaim_conclude,
    .state_bytes = sizeof(struct state),
};
