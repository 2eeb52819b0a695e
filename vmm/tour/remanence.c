/*
 * remanence: a program "erases" a secret with a memset that the compiler has removed, and
 * frees it: the host finds it in a free frame, by searching all of guest RAM. After a wipe
 * that the compiler must leave, it finds nothing; nor where the kernel zeroes what it frees;
 * where it zeroes what it allocates, nothing once the frame is used again. Once the host has
 * the frame back the secret is gone too. Frames that held one and went back to the host are
 * found in another machine, by their numbers, and hold nothing of it there.
 *
 * The host's view goes through the processor's caches, which are coherent: that the lines
 * were written back to memory is not seen, only that the instructions for it are there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/remanence.h"
#include "guest/abi/syscall.h"
#include "vmm/inspect/disasm.h"
#include "vmm/inspect/find.h"
#include "vmm/inspect/resident.h"
#include "vmm/launch/config.h"
#include "vmm/machine/vm.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"
#include "vmm/tour/frame_reuse.h"

#define MACHINE_FIRST 0
/* One word alone may be in the registers that the kernel saved; so 16 bytes are looked for. */
#define PIECE_WORDS 2
#define PIECES      (ABI_SECRET_WORDS / PIECE_WORDS)
_Static_assert(ABI_REMANENCE_STEPS <= TOUR_STEPS_MAX, "steps");

#define CODE_BYTES 96 /* of a function, more than any of the two has */

struct state {
    uint64_t left;                       /* GPA of secret 1 after it was freed */
    uint64_t many[FIND_HITS_MAX], nmany; /* GPAs of the pages with secret 5 */
    struct frame_reuse reuse;            /* the host's frames behind them */
    struct frame_reuse_found found;
    double ticks[ABI_ZERO_COUNT];
    uint64_t searched;
};

static const struct config_device devices[] = { { .kind = DEVICE_BALLOON } };

static void remanence_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    (void)host;
    snprintf(text, bytes, "remanence%s", control ? " break" : "");
}

static void remanence_machine(const struct tour_run *run, struct vm_config *config)
{
    if (run->machine != MACHINE_FIRST)
        return;
    memcpy(config->devices, devices, sizeof(devices));
    config->ndevices = sizeof(devices) / sizeof(devices[0]);
}

/* ---- Searching ------------------------------------------------------------- */

/* Places in guest RAM that hold one of the secret's pieces; in *gpa the first of all. */
static uint64_t remanence_places(struct tour_run *run, const struct guest_view *view,
                                 unsigned secret, uint64_t *gpa)
{
    struct state *state = run->state;
    uint64_t n = 0;

    *gpa = 0;
    for (unsigned piece = 0; piece < PIECES; piece++) {
        uint64_t word[PIECE_WORDS];
        struct find find;
        int err;

        for (unsigned i = 0; i < PIECE_WORDS; i++)
            word[i] = ABI_SECRET_WORD(secret, piece * PIECE_WORDS + i);
        err = find_create(&find, view->memory, word, sizeof(word));
        if (err) {
            check_true(run, false, "memory", strerror(-err), "search for secret %u", secret);
            return n;
        }
        find_scan(&find, NULL, NULL);
        if (find.n && !*gpa)
            *gpa = find.hit[0].gpa;
        n += find.n;
        state->searched = find.searched_bytes;
        find_destroy(&find);
    }
    return n;
}

/* Whole and in one place, a free frame; or nowhere. */
static uint64_t remanence_expect_found(struct tour_run *run, const struct guest_view *view,
                                       unsigned secret, const char *when)
{
    uint64_t gpa, n = remanence_places(run, view, secret, &gpa);
    struct abi_frame frame = guest_frame(view, gpa);
    bool is_free = n && frame.kind == ABI_FRAME_FREE && !frame.refs;
    char where[48];

    check_equal(run, PIECES, n, "%s: pieces of secret %u in guest RAM", when, secret);
    snprintf(where, sizeof(where), "%s, gpa 0x%" PRIx64, is_free ? "free" : "in use", gpa);
    check_true(run, is_free, "free", n ? where : "none", "%s: its frame", when);
    return gpa;
}

static void remanence_expect_gone(struct tour_run *run, const struct guest_view *view,
                                  unsigned secret, const char *when)
{
    uint64_t gpa;

    check_equal(run, 0, remanence_places(run, view, secret, &gpa),
                "%s: pieces of secret %u in guest RAM", when, secret);
}

/* ---- The code --------------------------------------------------------------- */

struct code {
    unsigned stores, flushes, fences, calls;
    uint64_t end; /* where its last jump leads */
    char text[TOUR_TEXT_BYTES];
};

/* Whether an instruction's first operand, which it writes, is memory. */
static bool remanence_is_store(const char *text)
{
    const char *operand = strstr(text, " ptr ["), *comma = strchr(text, ',');

    return !strncmp(text, "rep stos", 8) ||
           (operand && comma && operand < comma && strncmp(text, "cmp", 3) != 0 &&
            strncmp(text, "test", 4) != 0);
}

/* From the function's start, as it lies in guest memory, to the jump that ends it. */
static void remanence_read_code(struct tour_run *run, const struct guest_view *view,
                                const struct abi_checkpoint *record, uint64_t va, const char *which,
                                struct code *code)
{
    uint64_t root = check_vcpu_root(run, record->vcpu);
    uint8_t bytes[CODE_BYTES];
    unsigned at = 0;
    char text[DISASM_TEXT_BYTES];
    int length;

    memset(code, 0, sizeof(*code));
    if (guest_read(view, root, va, bytes, sizeof(bytes))) {
        check_true(run, false, "readable", "not readable", "code of %s", which);
        return;
    }
    while ((length = disasm_one(bytes + at, sizeof(bytes) - at, va + at, 64, text, sizeof(text))) >
           0) {
        size_t used = strlen(code->text);

        snprintf(code->text + used, sizeof(code->text) - used, "%s%s", used ? "; " : "", text);
        at += (unsigned)length;
        code->stores += remanence_is_store(text);
        code->flushes += !strncmp(text, "clflush", 7) || !strncmp(text, "clwb", 4);
        code->fences += !strncmp(text, "mfence", 6);
        code->calls += !strncmp(text, "call", 4);
        if (!strncmp(text, "ret", 3))
            return;
        if (sscanf(text, "jmp 0x%" SCNx64, &code->end) == 1)
            return;
    }
}

static void remanence_look_at_forget(struct tour_run *run, const struct guest_view *view,
                                     const struct abi_checkpoint *record)
{
    struct code code;

    remanence_read_code(run, view, record, record->arg[ABI_REMANENCE_FORGET], "what should erase",
                        &code);
    check_true(run, code.text[0] && !code.stores && !code.calls, "no store, no call", code.text,
               "left: the function with the memset, as it lies in memory");
    check_hex(run, record->arg[ABI_REMANENCE_FREE], code.end, "left: where it goes on: free");
}

static void remanence_look_at_wipe(struct tour_run *run, const struct guest_view *view,
                                   const struct abi_checkpoint *record)
{
    struct code code;

    remanence_read_code(run, view, record, record->arg[ABI_REMANENCE_WIPE], "what does erase",
                        &code);
    check_true(run, code.stores && code.flushes && code.fences,
               "stores, then lines written back, then a fence", code.text,
               "wiped: the function with the barrier, as it lies in memory");
    check_hex(run, record->arg[ABI_REMANENCE_FREE], code.end, "wiped: where it goes on: free");
}

/* ---- The steps -------------------------------------------------------------- */

/* Where the pages with secret 5 are, in the machine and on the host. */
static void remanence_filled(struct tour_run *run, const struct guest_view *view)
{
    const uint64_t word[PIECE_WORDS] = { ABI_SECRET_WORD(5, 0), ABI_SECRET_WORD(5, 1) };
    struct state *state = run->state;
    struct find find;

    state->nmany = 0;
    if (!find_create(&find, view->memory, word, sizeof(word))) {
        find_scan(&find, NULL, NULL);
        for (size_t i = 0; i < find.n; i++)
            state->many[state->nmany++] = find.hit[i].gpa & ~(ABI_PAGE_BYTES - 1);
        find_destroy(&find);
    }
    check_equal(run, ABI_REMANENCE_MANY, state->nmany, "filled: pages that hold secret 5");
    frame_reuse_note(&state->reuse, view->memory, state->many, state->nmany);
}

/* The page itself: the host has nothing behind it, and who looks at it sees zeroes. */
static void remanence_given(struct tour_run *run, const struct guest_view *view)
{
    const struct state *state = run->state;
    uint64_t page = state->left & ~(ABI_PAGE_BYTES - 1), nonzero = 0;
    const uint64_t *word = memory_at(view->memory, page, ABI_PAGE_BYTES);

    check_equal(run, 0, (uint64_t)resident_pages(view->memory, &page, 1),
                "given: its page, in the host's memory");
    remanence_expect_gone(run, view, 1, "given");
    check_equal(run, 0, (uint64_t)resident_pages(view->memory, state->many, state->nmany),
                "given: pages that held secret 5, in the host's memory");
    remanence_expect_gone(run, view, 5, "given");
    for (unsigned i = 0; word && i < ABI_PAGE_BYTES / 8; i++)
        nonzero += word[i] != 0;
    check_equal(run, 0, nonzero, "given: words of its page that are not zero");
}

static void remanence_cost(struct tour_run *run, const uint64_t *arg)
{
    static const char *const name[ABI_ZERO_COUNT] = { "needed", "on_free", "on_alloc" };
    struct state *state = run->state;

    for (unsigned i = 0; i < ABI_ZERO_COUNT; i++) {
        state->ticks[i] = (double)arg[ABI_REMANENCE_TICKS + i] / (double)arg[ABI_REMANENCE_PAGES];
        check_add_figure(run, state->ticks[i], "zero_%s_page_tsc", name[i]);
    }
    for (unsigned i = 1; i < ABI_ZERO_COUNT; i++)
        check_add_figure(run, state->ticks[i] / state->ticks[ABI_ZERO_NEEDED], "zero_%s_ratio",
                         name[i]);
}

/* All that the host hands to the other machine is zero, frames that held secret 5 among it. */
static void remanence_elsewhere(struct tour_run *run, const struct guest_view *view)
{
    struct state *state = run->state;
    struct frame_reuse_found *found = &state->found;
    char text[96];

    for (unsigned secret = 1; secret <= ABI_REMANENCE_SECRETS; secret++)
        remanence_expect_gone(run, view, secret, "another machine");
    snprintf(text, sizeof(text), "%" PRIu64 " bytes", state->searched);
    check_true(run, state->searched >= ABI_REMANENCE_ELSEWHERE_PAGES * ABI_PAGE_BYTES,
               "what it touched or more", text, "another machine: memory searched");
    frame_reuse_find(&state->reuse, view->memory, found);
    check_equal(run, 0, found->nonzero, "another machine: words not zero in frames it is given");
    if (state->reuse.unknown)
        snprintf(text, sizeof(text), "not known: %s", state->reuse.unknown);
    else if (found->seen)
        snprintf(text, sizeof(text), "%" PRIu64 " of %" PRIu64, found->seen, state->reuse.n);
    else
        snprintf(text, sizeof(text), "none of %" PRIu64 " in %" PRIu64 " pages; those were checked",
                 state->reuse.n, found->looked);
    /* Which frames the host takes is its own affair. */
    check_true(run, found->fresh > 0, "the host gives it frames", text,
               "another machine: has frames that held secret 5");
}

static void remanence_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                                 const struct guest_view *view)
{
    struct state *state = run->state;

    switch (record->step) {
    case ABI_REMANENCE_LEFT:
        state->left = remanence_expect_found(run, view, 1, "left");
        remanence_look_at_forget(run, view, record);
        break;
    case ABI_REMANENCE_WIPED:
        remanence_expect_gone(run, view, 2, "wiped");
        remanence_look_at_wipe(run, view, record);
        /* The search would have found it: it finds the other one still. */
        check_hex(run, state->left, remanence_expect_found(run, view, 1, "wiped"),
                  "wiped: where secret 1 is still");
        break;
    case ABI_REMANENCE_FILLED: remanence_filled(run, view); break;
    case ABI_REMANENCE_GIVEN: remanence_given(run, view); break;
    case ABI_REMANENCE_ON_FREE: remanence_expect_gone(run, view, 3, "zeroed when freed"); break;
    case ABI_REMANENCE_ON_ALLOC:
        remanence_expect_found(run, view, 4, "to be zeroed when allocated");
        break;
    case ABI_REMANENCE_REUSED: remanence_expect_gone(run, view, 4, "allocated again"); break;
    case ABI_REMANENCE_COST: remanence_cost(run, record->arg); break;
    case ABI_REMANENCE_ELSEWHERE: remanence_elsewhere(run, view); break;
    default: break;
    }
}

static void remanence_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;
    double needed = state->ticks[ABI_ZERO_NEEDED];
    char again[96];

    check_add_figure(run, (double)state->reuse.n, "given_frames");
    check_add_figure(run, (double)state->found.fresh, "other_machine_frames");
    check_add_figure(run, (double)state->found.seen, "given_frames_seen_again");
    if (state->found.seen)
        snprintf(again, sizeof(again),
                 "%" PRIu64 " frames that held one seen in another machine, zero",
                 state->found.seen);
    else
        snprintf(again, sizeof(again), "no frame that held one seen in another machine%s%s",
                 state->reuse.unknown ? ": " : "",
                 state->reuse.unknown ? state->reuse.unknown : "");

    snprintf(key, bytes,
             "zeroing a frame when freed makes its use %.2f x as long, when allocated %.2f x; %s",
             state->ticks[ABI_ZERO_ON_FREE] / needed, state->ticks[ABI_ZERO_ON_ALLOC] / needed,
             again);
}

const struct tour_exercise tour_remanence = {
    .name = "remanence",
    .shows = "a secret that outlives memset and free, until it is wiped in earnest",
    .breaks = "the wipe is one the compiler removes, the kernel zeroes nothing",
    .id = ABI_REMANENCE,
    .steps = ABI_REMANENCE_STEPS,
    .machines = 2,
    .machine = remanence_machine,
    .command = remanence_command,
    .checkpoint = remanence_checkpoint,
    .memory_map = { ABI_REMANENCE_LEFT, 1,
                    "the secret was erased and freed, as the program believes: its frame is free, "
                    "mapped nowhere, and has it still" },
    .conclude = remanence_conclude,
    .state_bytes = sizeof(struct state),
};
