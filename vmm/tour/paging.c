/*
 * paging: what the guest mapped is what its tables say, accessed and dirty bits are
 * where it touched, forbidden accesses fault as the tables demand, and all of it is
 * gone after munmap.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define PAGES_INTERPRETED 48
#define PAGES             384
#define PAGES_MAX         1024
#define READONLY_PAGES    4
#define ATTEMPTS_MAX      64
/* The one page made inaccessible keeps its frame without a mapping. */
#define HELD_BY_NONE 1

struct state {
    uint64_t free_before, tables_before, users_before;
    uint64_t pages, region[ABI_PAGING_NARGS];
    uint64_t gpa[PAGES_MAX + 16]; /* frames that were mapped */
    size_t ngpas;
};

static void paging_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    snprintf(text, bytes, "paging %d%s", host->interprets || control ? PAGES_INTERPRETED : PAGES,
             control ? " break" : "");
}

static void paging_remember(struct state *state, uint64_t gpa)
{
    if (state->ngpas < sizeof(state->gpa) / sizeof(state->gpa[0]))
        state->gpa[state->ngpas++] = gpa;
}

static void paging_before(struct tour_run *run, const struct guest_view *view)
{
    struct state *state = run->state;
    struct guest_audit audit;

    check_audit(run, view, 0, "before", &audit);
    state->free_before = view->kernel.free_frames;
    state->tables_before = audit.tables;
    state->users_before = audit.user_frames;
}

/* The region with the known pattern: what is present, accessed, dirty, and nothing else. */
static void paging_check_touched(struct tour_run *run, const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    uint64_t present = 0, accessed = 0, dirty = 0, wrong_presence = 0, wrong_bits = 0;
    uint64_t wrong_rights = 0, touched = 0, written = 0;

    for (uint64_t i = 0; i < state->pages; i++) {
        unsigned touch = ABI_PAGING_TOUCH(i);
        struct paging_walk walk;
        bool mapped = !guest_walk(view, root,
                                  state->region[ABI_PAGING_TOUCHED] + i * ABI_PAGE_BYTES, &walk);

        touched += touch != 0;
        written += touch == 2;
        wrong_presence += mapped != (touch != 0);
        if (!mapped)
            continue;
        present++;
        accessed += walk.leaf.accessed;
        dirty += walk.leaf.dirty;
        wrong_bits += !walk.leaf.accessed || walk.leaf.dirty != (touch == 2);
        wrong_rights += !walk.leaf.writable || !walk.leaf.user || !walk.leaf.nx ||
                        walk.leaf.page_bytes != ABI_PAGE_BYTES;
        paging_remember(state, walk.leaf.gpa);
    }
    check_equal(run, touched, present, "touched: pages present");
    check_equal(run, 0, wrong_presence, "touched: pages present that were not touched, or not");
    check_equal(run, touched, accessed, "touched: accessed bits");
    check_equal(run, written, dirty, "touched: dirty bits");
    check_equal(run, 0, wrong_bits, "touched: pages with an accessed or dirty bit out of place");
    check_equal(run, 0, wrong_rights, "touched: pages not 4K, read-write, user, NX");
}

static void paging_describe(const struct paging_walk *walk, char *text, size_t bytes)
{
    if (walk->status != PAGING_MAPPED)
        snprintf(text, bytes, "%s", paging_status_name(walk->status));
    else
        snprintf(text, bytes, "%s r%s%s %s%s%s",
                 walk->leaf.page_bytes == ABI_HUGE_BYTES ? "2M" : "4K",
                 walk->leaf.writable ? "w" : "-", walk->leaf.nx ? "-" : "x",
                 walk->leaf.user ? "user" : "kernel", walk->leaf.accessed ? " A" : "",
                 walk->leaf.dirty ? " D" : "");
}

/* One page's mapping in words; `expected` is what paging_describe() must come to. */
static void paging_check_mapping(struct tour_run *run, const struct guest_view *view, uint64_t root,
                                 uint64_t va, const char *what, const char *expected)
{
    struct paging_walk walk;
    char observed[TOUR_TEXT_BYTES];

    if (!guest_walk(view, root, va, &walk))
        paging_remember(run->state, walk.leaf.gpa);
    paging_describe(&walk, observed, sizeof(observed));
    check_true(run, !strcmp(expected, observed), expected, observed, "%s", what);
}

struct rights {
    uint64_t pages, writable_executable;
};

static int paging_count_rights(void *owner, const struct paging_leaf *leaf)
{
    struct rights *rights = owner;

    rights->pages++;
    rights->writable_executable += leaf->writable && !leaf->nx;
    return 0;
}

static void paging_mapped(struct tour_run *run, const struct abi_checkpoint *record,
                          const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    struct guest_audit audit;
    struct rights rights = { 0 };
    const struct paging_visitor visitor = { .owner = &rights, .leaf = paging_count_rights };
    const uint64_t *arg = record->arg;

    memcpy(state->region, arg, sizeof(state->region));
    state->pages = arg[ABI_PAGING_PAGES] < PAGES_MAX ? arg[ABI_PAGING_PAGES] : PAGES_MAX;
    paging_check_touched(run, view, root);
    for (unsigned i = 0; i < READONLY_PAGES; i++)
        paging_check_mapping(run, view, root, arg[ABI_PAGING_READONLY] + i * ABI_PAGE_BYTES,
                             "read-only page", "4K r-- user A D");
    paging_check_mapping(run, view, root, arg[ABI_PAGING_CODE], "executable page",
                         "4K r-x user A D");
    paging_check_mapping(run, view, root, arg[ABI_PAGING_NONE], "inaccessible page", "not present");
    paging_check_mapping(run, view, root, arg[ABI_PAGING_HUGE_RW], "2M page, written",
                         "2M rw- user A D");
    paging_check_mapping(run, view, root, arg[ABI_PAGING_HUGE_RO], "2M page, read",
                         "2M r-- user A");
    paging_each(&paging_x86_4level, &view->reader, root, (struct paging_range){ 0, UINT64_MAX / 2 },
                UINT32_MAX, &visitor);
    check_equal(run, 0, rights.writable_executable, "user pages writable and executable");
    check_audit(run, view, HELD_BY_NONE, "mapped", &audit);
    check_equal(run,
                view->kernel.free_frames + (audit.user_frames - state->users_before) +
                    (audit.tables - state->tables_before) + HELD_BY_NONE +
                    2 * (ABI_HUGE_BYTES / ABI_PAGE_BYTES - 1),
                state->free_before, "mapped: every frame taken is one that a walk finds");
    check_add_figure(run, (double)rights.pages, "user_pages");
    check_add_figure(run, (double)audit.tables, "table_frames");
}

/* The guest's list of attempts, read through its own page tables. */
static size_t paging_read_attempts(struct tour_run *run, const struct abi_checkpoint *record,
                                   const struct guest_view *view, uint64_t root,
                                   struct abi_attempt *attempts)
{
    uint64_t n = record->arg[1];

    if (n > ATTEMPTS_MAX || guest_read(view, root, record->arg[0], attempts, n * sizeof(*attempts)))
        n = 0;
    check_true(run, n > 0, "some", n ? "some" : "none that can be read",
               "step %" PRIu32 ": attempted accesses", record->step);
    return n;
}

static const char *paging_access_name(uint32_t access)
{
    return access == ABI_FETCH ? "fetch" : access == ABI_WRITE ? "write" : "read";
}

/*
 * Every attempt must have faulted, at its own address, with the error code that the
 * tables demand. One check for each, because the code is the interesting part.
 */
static void paging_faults(struct tour_run *run, const struct abi_checkpoint *record,
                          const struct guest_view *view, uint64_t root)
{
    struct abi_attempt attempts[ATTEMPTS_MAX];
    size_t n = paging_read_attempts(run, record, view, root, attempts);

    for (size_t i = 0; i < n; i++) {
        const struct abi_attempt *attempt = &attempts[i];
        char expected[TOUR_TEXT_BYTES], observed[TOUR_TEXT_BYTES];
        struct paging_walk walk;
        uint32_t code;

        guest_walk(view, root, attempt->va, &walk);
        code = paging_fault_code(&walk, (enum paging_access)attempt->access, true, true);
        if (code == PAGING_NO_FAULT)
            snprintf(expected, sizeof(expected), "tables that forbid it");
        else
            snprintf(expected, sizeof(expected), "#PF code 0x%" PRIx32 " at 0x%" PRIx64, code,
                     attempt->va);
        if (!attempt->vector)
            snprintf(observed, sizeof(observed), "no fault");
        else if (attempt->vector != 14)
            snprintf(observed, sizeof(observed), "exception %" PRIu32, attempt->vector);
        else
            snprintf(observed, sizeof(observed), "#PF code 0x%" PRIx32 " at 0x%" PRIx64,
                     attempt->error, attempt->fault_va);
        check_true(run, !strcmp(expected, observed), expected, observed, "%s of 0x%" PRIx64,
                   paging_access_name(attempt->access), attempt->va);
    }
    check_add_figure(run, (double)n, "forbidden_accesses");
}

static void paging_unmapped(struct tour_run *run, const struct abi_checkpoint *record,
                            const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    struct abi_attempt attempts[ATTEMPTS_MAX];
    size_t n = paging_read_attempts(run, record, view, root, attempts);
    uint64_t reachable = 0, in_use = 0, not_refused = 0;
    struct guest_audit audit;
    struct paging_walk walk;

    for (size_t i = 0; i < n; i++)
        not_refused += attempts[i].vector != 14 || (attempts[i].error & ABI_PF_PRESENT) ||
                       attempts[i].fault_va != attempts[i].va;
    check_equal(run, 0, not_refused, "unmapped: accesses that did not find nothing");
    for (unsigned i = ABI_PAGING_TOUCHED; i <= ABI_PAGING_HUGE_RO; i++) {
        uint64_t bytes = i == ABI_PAGING_TOUCHED   ? state->pages * ABI_PAGE_BYTES
                         : i >= ABI_PAGING_HUGE_RW ? ABI_HUGE_BYTES
                                                   : ABI_PAGE_BYTES;

        for (uint64_t at = 0; at < bytes; at += ABI_PAGE_BYTES)
            reachable += !guest_walk(view, root, state->region[i] + at, &walk);
    }
    check_equal(run, 0, reachable, "unmapped: pages still reachable");
    for (size_t i = 0; i < state->ngpas; i++)
        in_use += guest_frame(view, state->gpa[i]).refs != 0;
    check_equal(run, 0, in_use, "unmapped: frames of the regions still in use");
    check_audit(run, view, 0, "unmapped", &audit);
    check_equal(run, state->tables_before, audit.tables, "unmapped: page-table frames as before");
    check_equal(run, state->users_before, audit.user_frames, "unmapped: user frames as before");
    check_equal(run, state->free_before, view->kernel.free_frames,
                "unmapped: free frames as before");
}

static void paging_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                              const struct guest_view *view)
{
    struct abi_process process = { 0 };
    uint64_t root = check_vcpu_root(run, record->vcpu);

    /* The tables that the CPU uses are the process's own. */
    guest_process(view, record->pid, &process);
    check_hex(run, root, process.root, "step %" PRIu32 ": CR3 and the process's root",
              record->step);
    switch (record->step) {
    case ABI_PAGING_BEFORE: paging_before(run, view); break;
    case ABI_PAGING_MAPPED: paging_mapped(run, record, view, root); break;
    case ABI_PAGING_FAULTS: paging_faults(run, record, view, root); break;
    case ABI_PAGING_UNMAPPED: paging_unmapped(run, record, view, root); break;
    default: break;
    }
}

static void paging_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;

    snprintf(key, bytes, "%" PRIu64 " pages of 4K and 2 of 2M, %.0f forbidden accesses",
             state->pages, check_figure(run, "forbidden_accesses"));
}

const struct tour_exercise tour_paging = {
    .name = "paging",
    .shows = "4K and 2M pages, rights, A/D bits, faults, nothing left",
    .breaks = "page-table entries lose NX and are always writable",
    .id = ABI_PAGING,
    .steps = ABI_PAGING_STEPS,
    .command = paging_command,
    .checkpoint = paging_checkpoint,
    .memory_map = { ABI_PAGING_MAPPED, 1, "all pages mapped and touched" },
    .conclude = paging_conclude,
    .state_bytes = sizeof(struct state),
};
