/*
 * shared-library: three programs have one library mapped, at different addresses. Its
 * text is one set of frames for all, those of the file; its tables and data are too,
 * until each page's first write, which is the dynamic loader's store to a table for the
 * ones, and the library's own to a variable for the other.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "vmm/inspect/disasm.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"
#include "vmm/tour/library.h"

#define MEMBERS ABI_LIBRARY_MEMBERS
/* The page by which the programs keep step is held by its object. */
#define HELD_BY_OBJECT 1

struct state {
    struct library library;
    uint64_t text_gpa[LIBRARY_PAGES_MAX]; /* of text pages, at the first step */
    uint64_t copies[MEMBERS];             /* on write, so far */
    char store[DISASM_TEXT_BYTES];        /* that made the tables private */
};

static void shared_library_command(const struct tour_host *host, bool control, char *text,
                                   size_t bytes)
{
    (void)host;
    snprintf(text, bytes, "shared-library%s", control ? " break" : "");
}

/* The three processes of a checkpoint. */
struct trio {
    struct abi_process process[MEMBERS];
    uint64_t base[MEMBERS];
};

/* What walks of all pages of one kind found. */
struct tally {
    uint64_t pages;
    uint64_t one;      /* pages that have one frame in all three */
    uint64_t apart;    /* pages that have three frames */
    uint64_t frames;   /* distinct, page by page */
    uint64_t of_file;  /* of 3 * pages: frames of the kernel's image, where the file is */
    uint64_t writable; /* of 3 * pages */
    uint64_t runs;     /* of 3 * pages: executable */
    uint64_t counted;  /* pages whose frame has three references */
};

static void shared_library_add_page(const struct guest_view *view, const struct paging_walk *walk,
                                    struct tally *tally)
{
    const uint64_t image_end = view->kernel.first_frame * ABI_PAGE_BYTES;
    uint64_t a = walk[0].leaf.gpa, b = walk[1].leaf.gpa, c = walk[2].leaf.gpa;
    unsigned frames = 1 + (b != a) + (c != a && c != b);

    tally->one += frames == 1;
    tally->apart += frames == MEMBERS;
    tally->frames += frames;
    tally->counted += guest_frame(view, a).refs == MEMBERS;
    for (unsigned m = 0; m < MEMBERS; m++) {
        tally->of_file += walk[m].leaf.gpa < image_end;
        tally->writable += walk[m].leaf.writable;
        tally->runs += walk[m].leaf.user && !walk[m].leaf.nx;
    }
}

/* A page that one of them has not mapped counts as a page, and as nothing else. */
static void shared_library_look(const struct guest_view *view, const struct trio *trio,
                                const struct library *library, struct tally *tally)
{
    memset(tally, 0, LIBRARY_KINDS * sizeof(*tally));
    for (uint64_t i = 0; i < library->npages; i++) {
        struct tally *of_kind = &tally[library->kind[i]];
        struct paging_walk walk[MEMBERS];
        int missing = 0;

        of_kind->pages++;
        for (unsigned m = 0; m < MEMBERS; m++)
            missing |= guest_walk(view, trio->process[m].root, trio->base[m] + i * ABI_PAGE_BYTES,
                                  &walk[m]);
        if (!missing)
            shared_library_add_page(view, walk, of_kind);
    }
}

/* What holds at all steps: text and constants are the file's own frames, for all. */
static void shared_library_expect_shared_text(struct tour_run *run, const struct tally *tally,
                                              const char *when)
{
    const struct tally *text = &tally[LIBRARY_TEXT], *constant = &tally[LIBRARY_CONSTANT];

    check_equal(run, text->pages, text->one, "%s: text pages with one GPA in all three", when);
    check_equal(run, text->pages, text->counted, "%s: text frames with three references", when);
    check_equal(run, MEMBERS * text->pages, text->of_file,
                "%s: mappings of text that are the file's own frames", when);
    check_equal(run, MEMBERS * text->pages, text->runs, "%s: mappings of text that may run", when);
    check_equal(run, 0, text->writable, "%s: mappings of text that may be written", when);
    check_equal(run, constant->pages, constant->one,
                "%s: pages of constants with one GPA in all three", when);
}

static void shared_library_mapped(struct tour_run *run, const struct guest_view *view,
                                  const struct trio *trio, const struct tally *tally)
{
    struct state *state = run->state;
    const struct tally *table = &tally[LIBRARY_TABLE], *data = &tally[LIBRARY_DATA];
    const uint64_t *base = trio->base;
    struct paging_walk walk;

    check_true(run, base[0] != base[1] && base[1] != base[2] && base[0] != base[2], "three",
               "fewer", "addresses that the library is loaded at");
    check_true(run, tally[LIBRARY_TEXT].pages > 0 && table->pages > 0 && data->pages > 0, "some",
               "none", "pages of text, tables and data");
    check_equal(run, table->pages + data->pages, table->one + data->one,
                "mapped: table and data pages with one GPA in all three");
    check_equal(run, 0, table->writable + data->writable,
                "mapped: mappings of tables and data that may be written");
    for (uint64_t i = 0; i < state->library.npages; i++) {
        state->text_gpa[i] = 0;
        if (state->library.kind[i] == LIBRARY_TEXT &&
            !guest_walk(view, trio->process[0].root, base[0] + i * ABI_PAGE_BYTES, &walk))
            state->text_gpa[i] = walk.leaf.gpa;
    }
}

/* ---- The instruction that broke the sharing ------------------------------- */

/* The last copy on write of one: where the instruction wrote, and what it is. */
static struct abi_cow shared_library_last_copy(const struct guest_view *view,
                                               const struct abi_process *process, char *text,
                                               size_t bytes)
{
    struct abi_cow cow = process->cow[(process->cow_copies - 1) % ABI_COWS];
    uint8_t code[DISASM_CODE_BYTES];
    size_t n = sizeof(code);

    snprintf(text, bytes, "(not mapped)");
    if (cow.rip % ABI_PAGE_BYTES + n > ABI_PAGE_BYTES &&
        guest_read(view, process->root, cow.rip, code, n))
        n = ABI_PAGE_BYTES - cow.rip % ABI_PAGE_BYTES;
    if (!guest_read(view, process->root, cow.rip, code, n))
        disasm_one(code, n, cow.rip, 64, text, bytes);
    return cow;
}

/* "mov qword ptr [rdi], rsi": eight bytes in memory are its destination. */
static bool shared_library_writes_word(const char *instruction)
{
    const char *operand = strchr(instruction, ' ');

    return operand && !strncmp(operand, " qword ptr [", 12);
}

static bool shared_library_is_slot(const struct library *library, uint64_t offset)
{
    for (size_t i = 0; i < library->nrelocations; i++) {
        if (library->relocation[i].offset == offset)
            return true;
    }
    return false;
}

static bool shared_library_is_kind(const struct library *library, uint64_t offset,
                                   enum library_page kind)
{
    return offset / ABI_PAGE_BYTES < library->npages &&
           library->kind[offset / ABI_PAGE_BYTES] == kind;
}

static void shared_library_expect_copies(struct tour_run *run, const struct trio *trio,
                                         uint64_t expected, const char *what)
{
    struct state *state = run->state;

    for (unsigned m = 0; m < MEMBERS; m++) {
        const struct abi_process *process = &trio->process[m];

        check_equal(run, expected, process->cow_copies - state->copies[m], "%.24s: %s",
                    process->name, what);
        state->copies[m] = process->cow_copies;
    }
}

/* ---- Relocated ------------------------------------------------------------ */

/* Slots that hold what the host works out from the library's symbols. */
static uint64_t shared_library_right_slots(const struct guest_view *view, const struct trio *trio,
                                           const struct library *library)
{
    uint64_t right = 0;

    for (unsigned m = 0; m < MEMBERS; m++) {
        uint64_t root = trio->process[m].root, base = trio->base[m];

        for (size_t i = 0; i < library->nrelocations; i++) {
            const struct library_relocation *r = &library->relocation[i];
            struct paging_walk walk;
            uint64_t value;

            if (guest_read(view, root, base + r->offset, &value, sizeof(value)))
                continue;
            /* A function of the program, which has its own. */
            if (r->imported)
                right += !guest_walk(view, root, value, &walk) && walk.leaf.user && !walk.leaf.nx;
            else
                right += value == base + r->value;
        }
    }
    return right;
}

static void shared_library_bound(struct tour_run *run, const struct guest_view *view,
                                 const struct trio *trio, const struct tally *tally)
{
    struct state *state = run->state;
    const struct tally *table = &tally[LIBRARY_TABLE], *data = &tally[LIBRARY_DATA];
    const struct library *library = &state->library;

    check_equal(run, table->pages, table->apart, "relocated: table pages private to each");
    check_equal(run, 0, table->writable, "relocated: tables sealed, mappings still writable");
    check_equal(run, data->pages, data->one, "relocated: data pages with one GPA in all three");
    check_equal(run, MEMBERS * library->nrelocations,
                shared_library_right_slots(view, trio, library),
                "relocated: slots that hold what the symbols say");
    shared_library_expect_copies(run, trio, table->pages, "copies on write by relocation");
    for (unsigned m = 0; m < MEMBERS; m++) {
        const struct abi_process *process = &trio->process[m];
        char text[DISASM_TEXT_BYTES];
        struct abi_cow cow = shared_library_last_copy(view, process, text, sizeof(text));
        bool slot = shared_library_is_slot(library, cow.va - trio->base[m]);

        check_true(run, slot, "a slot of the table", slot ? "a slot of the table" : "elsewhere",
                   "%.24s: what the write that ended the sharing wrote to", process->name);
        check_true(run, shared_library_writes_word(text), "a store of a word", text,
                   "%.24s: the instruction that ended it", process->name);
        if (slot)
            snprintf(state->store, sizeof(state->store), "%s", text);
    }
}

/* ---- Used ----------------------------------------------------------------- */

static void shared_library_written(struct tour_run *run, const struct guest_view *view,
                                   const struct trio *trio, const struct tally *tally,
                                   uint64_t calls_va)
{
    struct state *state = run->state;
    const struct tally *data = &tally[LIBRARY_DATA];
    const struct library *library = &state->library;
    uint64_t frames = 0;

    check_equal(run, 1, data->apart, "used: data pages written, private to each");
    check_equal(run, data->pages - 1, data->one, "used: data pages not written, one GPA");
    shared_library_expect_copies(run, trio, 1, "copies on write by use");
    for (unsigned m = 0; m < MEMBERS; m++) {
        const struct abi_process *process = &trio->process[m];
        uint64_t va = calls_va - trio->base[0] + trio->base[m], calls = 0;
        char text[DISASM_TEXT_BYTES];
        struct abi_cow cow = shared_library_last_copy(view, process, text, sizeof(text));

        guest_read(view, process->root, va, &calls, sizeof(calls));
        check_equal(run, ABI_LIBRARY_CALLS(m), calls - ABI_LIBRARY_FIRST_COUNT,
                    "%.24s: calls that its own copy counts", process->name);
        check_hex(run, va, cow.va, "%.24s: the variable whose write made the copy", process->name);
        check_true(run,
                   shared_library_is_kind(library, cow.rip - trio->base[m], LIBRARY_TEXT) &&
                       shared_library_writes_word(text),
                   "a store of a word in the library's text", text,
                   "%.24s: the instruction that wrote it", process->name);
    }
    for (unsigned kind = 0; kind < LIBRARY_KINDS; kind++)
        frames += tally[kind].frames;
    check_add_figure(run, (double)tally[LIBRARY_TEXT].pages, "text_pages");
    check_add_figure(run, (double)library->npages, "library_pages");
    check_add_figure(run, (double)(frames * ABI_PAGE_BYTES), "shared_bytes");
    check_add_figure(run, (double)(MEMBERS * library->npages * ABI_PAGE_BYTES),
                     "private_copies_bytes");
    check_add_figure(run, (double)((MEMBERS * library->npages - frames) * ABI_PAGE_BYTES),
                     "saved_bytes");
}

static void shared_library_gone(struct tour_run *run, const struct guest_view *view)
{
    const struct state *state = run->state;
    uint64_t left = 0;

    for (uint64_t i = 0; i < state->library.npages; i++)
        left += state->text_gpa[i] && guest_frame(view, state->text_gpa[i]).refs;
    check_equal(run, 0, left, "ended: text frames that still have references");
}

static bool shared_library_open_trio(struct tour_run *run, const struct abi_checkpoint *record,
                                     const struct guest_view *view, struct trio *trio)
{
    struct state *state = run->state;
    bool found = true;
    int err = 0;

    for (unsigned m = 0; m < MEMBERS; m++) {
        found = found && !guest_process(view, record->arg[ABI_LIBRARY_PID + m], &trio->process[m]);
        trio->base[m] = record->arg[ABI_LIBRARY_BASE + m];
    }
    if (found && record->step == ABI_LIBRARY_MAPPED)
        err = library_read(view, trio->process[0].root, trio->base[0], &state->library);
    check_true(run, found && !err, "three, and the library", err ? strerror(-err) : "too few",
               "step %" PRIu32 ": processes that have it mapped", record->step);
    return found && !err;
}

static void shared_library_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                                      const struct guest_view *view)
{
    static const char *const when[] = { "", "mapped", "relocated", "used", "ended" };
    struct state *state = run->state;
    struct tally tally[LIBRARY_KINDS];
    struct guest_audit audit;
    struct trio trio;

    if (record->step == ABI_LIBRARY_GONE) {
        shared_library_gone(run, view);
    } else {
        if (!shared_library_open_trio(run, record, view, &trio))
            return;
        shared_library_look(view, &trio, &state->library, tally);
        shared_library_expect_shared_text(run, tally, when[record->step]);
        switch (record->step) {
        case ABI_LIBRARY_MAPPED: shared_library_mapped(run, view, &trio, tally); break;
        case ABI_LIBRARY_BOUND: shared_library_bound(run, view, &trio, tally); break;
        default: shared_library_written(run, view, &trio, tally, record->arg[ABI_LIBRARY_CALLS_VA]);
        }
        for (unsigned m = 0; m < MEMBERS; m++)
            state->copies[m] = trio.process[m].cow_copies;
    }
    check_audit(run, view, HELD_BY_OBJECT, when[record->step], &audit);
}

static void shared_library_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;

    double shared = check_figure(run, "shared_bytes") / 1024;
    double copies = check_figure(run, "private_copies_bytes") / 1024;

    if (!isfinite(shared) || !state->store[0])
        snprintf(key, bytes, "nothing shared");
    else
        snprintf(key, bytes, "%.0f KiB instead of %.0f, text once; \"%s\" ended table sharing",
                 shared, copies, state->store);
}

const struct tour_exercise tour_shared_library = {
    .name = "shared-library",
    .shows = "one text for three programs, tables and data until written",
    .breaks = "each process gets its own copies of the file's pages",
    .id = ABI_LIBRARY,
    .steps = ABI_LIBRARY_STEPS,
    .command = shared_library_command,
    .checkpoint = shared_library_checkpoint,
    .memory_map = { ABI_LIBRARY_WRITTEN, 1, "three programs have called the library" },
    .conclude = shared_library_conclude,
    .state_bytes = sizeof(struct state),
};
