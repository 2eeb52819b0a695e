/*
 * leak: address space and memory are two things. A process that maps and touches nothing
 * runs out of the one while the other is all there; one that touches what it loses has
 * frames; and when they end every frame comes back, page-table frames included, which the
 * host counts one by one in the frame table and by walking.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "guest/abi/syscall.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define LIMIT_MIB_INTERPRETED 64
#define LIMIT_MIB             256
#define CHUNKS_MAX            LIMIT_MIB
#define HUGE_FRAMES           (ABI_HUGE_BYTES / ABI_PAGE_BYTES)
#define WALK_BUDGET           (1u << 24)
#define USER_LAST             0x00007fffffffffffull
/* Below the area for mappings lies the program; less than this is not mapped in the end. */
#define ADDRESSES_SPARED (5ull << 30)

/* Frames by what the guest's table has them in use for; a 2M page is 512 frames. */
struct count {
    uint64_t user, tables, kernel;
    uint64_t free; /* the kernel's own count */
};

struct state {
    struct count before, started;
};

static uint64_t leak_limit_bytes(const struct tour_run *run)
{
    return (run->host->interprets || run->control ? LIMIT_MIB_INTERPRETED : LIMIT_MIB) * 1024ull *
           1024;
}

static void leak_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    if (control)
        snprintf(text, bytes, "leak %d break", LIMIT_MIB_INTERPRETED);
    else
        snprintf(text, bytes, "leak %d", host->interprets ? LIMIT_MIB_INTERPRETED : LIMIT_MIB);
}

static struct count leak_count_frames(const struct guest_view *view)
{
    struct count count = { .free = view->kernel.free_frames };

    for (uint64_t i = view->kernel.first_frame; i < view->kernel.nframes; i++) {
        uint8_t kind = view->frames[i].kind;

        count.user += kind == ABI_FRAME_USER ? 1 : kind == ABI_FRAME_HUGE ? HUGE_FRAMES : 0;
        count.tables += kind == ABI_FRAME_TABLE;
        count.kernel += kind == ABI_FRAME_KERNEL;
    }
    return count;
}

static int leak_add_leaf(void *owner, const struct paging_leaf *leaf)
{
    *(uint64_t *)owner += leaf->page_bytes / ABI_PAGE_BYTES;
    return 0;
}

/* Resident frames of an address space, by walking all of it. */
static uint64_t leak_resident(const struct guest_view *view, uint64_t root)
{
    uint64_t frames = 0;
    const struct paging_visitor visitor = { .owner = &frames, .leaf = leak_add_leaf };

    paging_each(&paging_x86_4level, &view->reader, root, (struct paging_range){ 0, USER_LAST },
                WALK_BUDGET, &visitor);
    return frames;
}

/* Frames in use and frames free are all there are, at any time. */
static void leak_expect_sum(struct tour_run *run, const struct count *count, const char *when)
{
    const struct count *before = &((const struct state *)run->state)->before;

    check_equal(run, before->user + before->tables + before->kernel + before->free,
                count->user + count->tables + count->kernel + count->free,
                "%s: frames in use and free, counted one by one", when);
}

static void leak_reserved(struct tour_run *run, const struct guest_view *view, const uint64_t *arg,
                          const struct abi_process *process, const struct count *now)
{
    const struct state *state = run->state;
    uint64_t walked = leak_resident(view, process->root);

    check_true(run, process->vsz_bytes > USER_LAST - ADDRESSES_SPARED, "47 bits",
               process->vsz_bytes > USER_LAST - ADDRESSES_SPARED ? "47 bits" : "less",
               "no more address space: what is mapped of it");
    check_true(run, process->vsz_bytes > arg[ABI_LEAK_BYTES] && arg[ABI_LEAK_BYTES] > 0,
               "more than the leak", "less", "no more address space: VSZ");
    check_equal(run, ABI_ENOMEM, -arg[ABI_LEAK_ERROR], "no more address space: error for one page");
    check_equal(run, process->rss_frames, walked, "no more address space: resident pages, walked");
    check_true(run, walked * ABI_PAGE_BYTES < process->vsz_bytes >> 20, "less than a millionth",
               "more", "no more address space: RSS of VSZ");
    check_equal(run, state->started.user, now->user,
                "no more address space: frames of user memory, as when it started");
    check_equal(run, state->started.tables, now->tables,
                "no more address space: page-table frames, as when it started");
    check_equal(run, state->started.free, now->free,
                "no more address space: free frames, as when it started");
    check_add_figure(run, (double)arg[ABI_LEAK_COUNT], "reserved_mappings");
    check_add_figure(run, (double)process->vsz_bytes, "reserved_vsz_bytes");
    check_add_figure(run, (double)(walked * ABI_PAGE_BYTES), "reserved_rss_bytes");
    check_add_figure(run, (double)(now->free * ABI_PAGE_BYTES), "reserved_free_bytes");
}

/* The pages of the mappings that hold what was written there. */
static uint64_t leak_lost_pages(const struct guest_view *view, uint64_t root, uint64_t first,
                                uint64_t chunks)
{
    uint64_t pages = 0;

    for (uint64_t i = 0; i < chunks; i++) {
        for (uint64_t page = 0; page < ABI_LEAK_CHUNK / ABI_PAGE_BYTES; page++) {
            uint64_t va = first + i * ABI_LEAK_CHUNK + page * ABI_PAGE_BYTES, word;

            if (guest_read(view, root, va, &word, sizeof(word)))
                break;
            pages += word == ABI_LEAK_WORD(i);
        }
    }
    return pages;
}

static void leak_touched(struct tour_run *run, const struct guest_view *view, const uint64_t *arg,
                         const struct abi_process *process, const struct count *now)
{
    const struct state *state = run->state;
    uint64_t chunks = arg[ABI_LEAK_COUNT] < CHUNKS_MAX ? arg[ABI_LEAK_COUNT] : CHUNKS_MAX;
    uint64_t written = 0, limit = leak_limit_bytes(run),
             walked = leak_resident(view, process->root);
    uint64_t others = ABI_LEAK_OBJECT_PAGES + HUGE_FRAMES;
    uint64_t pages = leak_lost_pages(view, process->root, arg[ABI_LEAK_FIRST], chunks);

    for (uint64_t i = 0; i < chunks; i++)
        written += ABI_LEAK_PAGES(i);
    check_equal(run, ABI_ENOMEM, -arg[ABI_LEAK_ERROR], "at the limit: error");
    check_equal(run, limit, process->vsz_limit, "at the limit: the limit");
    check_true(run, process->vsz_bytes <= limit && limit - process->vsz_bytes < ABI_LEAK_CHUNK,
               "less than one mapping", "more", "at the limit: address space left of it");
    check_equal(run, written, pages, "at the limit: lost pages that hold what was written");
    check_equal(run, process->rss_frames, walked, "at the limit: resident pages, walked");
    check_true(run, walked >= written + others && walked * ABI_PAGE_BYTES < process->vsz_bytes,
               "what was touched, less than VSZ", "not so", "at the limit: RSS");
    check_true(run, now->user >= state->before.user + written + others, "at least as many", "fewer",
               "at the limit: frames taken for what was touched");
    check_true(run, now->tables > state->before.tables, "more", "no more",
               "at the limit: page-table frames");
    check_true(run, now->free > state->before.free / 2, "more than half", "less",
               "at the limit: frames still free");
    check_add_figure(run, (double)chunks, "leaked_mappings");
    check_add_figure(run, (double)process->vsz_bytes, "leaked_vsz_bytes");
    check_add_figure(run, (double)(walked * ABI_PAGE_BYTES), "leaked_rss_bytes");
    check_add_figure(run, (double)(state->before.free - now->free), "leaked_frames");
    check_add_figure(run, (double)(now->tables - state->before.tables), "leaked_tables");
}

static void leak_returned(struct tour_run *run, const struct count *now, const char *when)
{
    const struct count *before = &((const struct state *)run->state)->before;

    check_equal(run, before->user, now->user, "%s: frames of user memory, as before", when);
    check_equal(run, before->tables, now->tables, "%s: page-table frames, as before", when);
    check_equal(run, before->kernel, now->kernel, "%s: frames of the kernel, as before", when);
    check_equal(run, before->free, now->free, "%s: free frames, as before", when);
}

static void leak_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                            const struct guest_view *view)
{
    static const char *const when[ABI_LEAK_STEPS] = {
        "",          "before", "started", "no more address space", "first ended", "at the limit",
        "both ended"
    };
    struct state *state = run->state;
    struct count now = leak_count_frames(view);
    struct abi_process process = { 0 };
    struct guest_audit audit;
    /* What the second has touched of its object is the object's too. */
    uint64_t held = record->step == ABI_LEAK_TOUCHED ? ABI_LEAK_OBJECT_PAGES : 0;

    guest_process(view, record->arg[ABI_LEAK_PID], &process);
    if (record->step == ABI_LEAK_BEFORE)
        state->before = now;
    switch (record->step) {
    case ABI_LEAK_STARTED: state->started = now; break;
    case ABI_LEAK_RESERVED: leak_reserved(run, view, record->arg, &process, &now); break;
    case ABI_LEAK_TOUCHED: leak_touched(run, view, record->arg, &process, &now); break;
    case ABI_LEAK_RETURNED:
    case ABI_LEAK_AFTER: leak_returned(run, &now, when[record->step]); break;
    default: break;
    }
    if (record->step == ABI_LEAK_AFTER)
        check_add_figure(run, (double)state->before.free - (double)now.free, "lost_frames");
    leak_expect_sum(run, &now, when[record->step]);
    check_audit(run, view, held, when[record->step], &audit);
}

static void leak_conclude(struct tour_run *run, char *key, size_t bytes)
{
    double vsz = check_figure(run, "reserved_vsz_bytes"),
           leaked = check_figure(run, "leaked_frames");
    double lost = check_figure(run, "lost_frames");

    if (!isfinite(vsz) || !isfinite(leaked) || !isfinite(lost))
        snprintf(key, bytes, "not measured");
    else
        snprintf(
            key, bytes,
            "ENOMEM at VSZ %.0f TiB, RSS %.0f KiB, %.0f MiB free; %.0f frames leaked, %.0f lost",
            vsz / (1ull << 40), check_figure(run, "reserved_rss_bytes") / 1024,
            check_figure(run, "reserved_free_bytes") / (1 << 20), leaked, lost);
}

const struct tour_exercise tour_leak = {
    .name = "leak",
    .shows = "address space gone, memory not; at exit every frame is back",
    .breaks = "a process's end forgets a page of each range, and a page table",
    .id = ABI_LEAK,
    .steps = ABI_LEAK_STEPS,
    .command = leak_command,
    .checkpoint = leak_checkpoint,
    .memory_map = { ABI_LEAK_TOUCHED, 1, "a process has come to its limit" },
    .conclude = leak_conclude,
    .state_bytes = sizeof(struct state),
};
