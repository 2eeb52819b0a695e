/*
 * shared-memory: two processes on two vCPUs, other addresses, the same frames; a
 * sequence-locked exchange through them loses and tears nothing, which the host sees
 * from the digest it computes itself and from the ring that is left in memory.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/exercises.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"
#include "vmm/tour/exercises.h"

#define MESSAGES         100000
#define MESSAGES_ONE_CPU 10000 /* where both vCPUs take turns on one host CPU */
#define COPIES           2000
#define COPIES_SLOW      300
#define PAGES_MAX        64
#define SLOTS_PER_PAGE   (ABI_PAGE_BYTES / sizeof(struct abi_slot))

struct state {
    uint64_t pages;
    uint64_t gpa[PAGES_MAX];
    double shared_ns, copied_ns; /* for each message */
};

static void shared_memory_command(const struct tour_host *host, bool control, char *text,
                                  size_t bytes)
{
    bool slow = host->interprets || host->cpus == 1;

    snprintf(text, bytes, "shared-memory %d %d%s", host->cpus > 1 ? MESSAGES : MESSAGES_ONE_CPU,
             slow ? COPIES_SLOW : COPIES, control ? " break" : "");
}

/* What a receiver's digest over n messages must come to. */
static uint64_t shared_memory_digest_of(uint64_t n)
{
    uint64_t digest = 0;

    for (uint64_t i = 0; i < n; i++) {
        digest = ABI_SHARED_DIGEST(digest, i);
        for (unsigned word = 0; word < ABI_SHARED_WORDS; word++)
            digest = ABI_SHARED_DIGEST(digest, ABI_SHARED_WORD(i, word));
    }
    return digest;
}

static void shared_memory_mapped(struct tour_run *run, const struct abi_checkpoint *record,
                                 const struct guest_view *view)
{
    const uint64_t *arg = record->arg;
    struct state *state = run->state;
    struct abi_process writer = { 0 }, reader = { 0 };
    uint64_t same = 0, different_va = 0, rights = 0, counted = 0;
    struct guest_audit audit;

    guest_process(view, arg[ABI_SHARED_WRITER], &writer);
    guest_process(view, arg[ABI_SHARED_READER], &reader);
    state->pages = arg[ABI_SHARED_PAGES] < PAGES_MAX ? arg[ABI_SHARED_PAGES] : PAGES_MAX;
    for (uint64_t i = 0; i < state->pages; i++) {
        uint64_t writer_va = arg[ABI_SHARED_WRITER_VA] + i * ABI_PAGE_BYTES;
        uint64_t reader_va = arg[ABI_SHARED_READER_VA] + i * ABI_PAGE_BYTES;
        struct paging_walk one, other;

        if (guest_walk(view, writer.root, writer_va, &one) ||
            guest_walk(view, reader.root, reader_va, &other))
            continue;
        state->gpa[i] = one.leaf.gpa;
        different_va += writer_va != reader_va;
        same += one.leaf.gpa == other.leaf.gpa;
        rights += one.leaf.writable && other.leaf.writable && one.leaf.nx && other.leaf.nx &&
                  one.leaf.user && other.leaf.user;
        /* The writer's mapping, two of the reader's (one inherited), and the object. */
        counted += guest_frame(view, one.leaf.gpa).refs == 4;
    }
    check_equal(run, state->pages, different_va, "pages at different virtual addresses");
    check_equal(run, state->pages, same, "pages at the same guest-physical address");
    check_equal(run, state->pages, rights, "pages read-write and NX on both sides");
    check_equal(run, state->pages, counted, "frames with a reference for each mapping");
    /* Each of the object's pages, and the control page behind them, is held by it. */
    check_audit(run, view, state->pages + 1, "mapped", &audit);
    check_true(run, writer.root != reader.root && writer.root && reader.root, "two", "not two",
               "address spaces");
    check_hex(run, writer.root, check_vcpu_root(run, 0),
              "page table root on vCPU 0 is the writer's");
    check_hex(run, reader.root, check_vcpu_root(run, 1),
              "page table root on vCPU 1 is the reader's");
}

/* Slots of the ring that hold the last messages as they were sent. */
static uint64_t shared_memory_whole_slots(const struct state *state, const struct guest_view *view,
                                          uint64_t messages)
{
    uint64_t slots = state->pages * SLOTS_PER_PAGE, whole = 0;

    if (!slots)
        return 0;
    for (uint64_t n = messages > slots ? messages - slots : 0; n < messages; n++) {
        uint64_t slot = n % slots;
        const struct abi_slot *at = memory_at(
            view->memory, state->gpa[slot / SLOTS_PER_PAGE] + slot % SLOTS_PER_PAGE * sizeof(*at),
            sizeof(*at));
        bool right = at && at->number == n && at->sequence == 2 * (n / slots) + 2;

        for (unsigned i = 0; right && i < ABI_SHARED_WORDS; i++)
            right = at->word[i] == ABI_SHARED_WORD(n, i);
        whole += right;
    }
    return whole;
}

static void shared_memory_exchanged(struct tour_run *run, const struct abi_checkpoint *record,
                                    const struct guest_view *view)
{
    const uint64_t *arg = record->arg;
    struct state *state = run->state;
    uint64_t messages = run->host->cpus > 1 ? MESSAGES : MESSAGES_ONE_CPU;
    uint64_t slots = state->pages * SLOTS_PER_PAGE;

    check_equal(run, messages, arg[ABI_SHARED_R_RECEIVED], "messages received");
    check_equal(run, 0, arg[ABI_SHARED_R_LOST], "messages lost");
    check_equal(run, 0, arg[ABI_SHARED_R_TORN], "messages torn");
    check_hex(run, shared_memory_digest_of(messages), arg[ABI_SHARED_R_DIGEST],
              "digest of what was received, computed by the host");
    check_equal(run, messages < slots ? messages : slots,
                shared_memory_whole_slots(state, view, messages),
                "slots in memory that hold the last messages");
    state->shared_ns = check_ticks_to_ns(run, arg[ABI_SHARED_R_TICKS]) / (double)messages;
    check_add_figure(run, (double)messages, "messages");
    check_add_figure(run, state->shared_ns, "shared_message_ns");
    check_add_figure(run, (double)arg[ABI_SHARED_R_RETRIES], "retries");
    check_add_figure(run, (double)arg[ABI_SHARED_R_YIELDS], "yields");
}

static void shared_memory_copied(struct tour_run *run, const struct abi_checkpoint *record)
{
    const uint64_t *arg = record->arg;
    struct state *state = run->state;
    uint64_t copies = arg[ABI_SHARED_C_MESSAGES];

    check_true(run, copies > 0 && copies <= MESSAGES, "some", copies ? "some" : "none",
               "messages through the kernel");
    if (copies == 0 || copies > MESSAGES)
        return;
    check_hex(run, shared_memory_digest_of(copies), arg[ABI_SHARED_C_DIGEST],
              "digest of what came through the kernel");
    state->copied_ns = check_ticks_to_ns(run, arg[ABI_SHARED_C_TICKS]) / (double)copies;
    check_add_figure(run, (double)copies, "copied_messages");
    check_add_figure(run, state->copied_ns, "copied_message_ns");
}

static void shared_memory_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                                     const struct guest_view *view)
{
    switch (record->step) {
    case ABI_SHARED_MAPPED: shared_memory_mapped(run, record, view); break;
    case ABI_SHARED_EXCHANGED: shared_memory_exchanged(run, record, view); break;
    case ABI_SHARED_COPIED: shared_memory_copied(run, record); break;
    default: break;
    }
}

static void shared_memory_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;
    double ratio = state->copied_ns / state->shared_ns;

    check_add_figure(run, (double)state->pages, "pages");
    check_add_figure(run, ratio, "copied_to_shared_ratio");
    if (isfinite(ratio) && ratio > 0)
        snprintf(key, bytes, "%.0f messages, %.0f x the throughput of copying through the kernel",
                 check_figure(run, "messages"), ratio);
    else
        snprintf(key, bytes, "%.0f messages", check_figure(run, "messages"));
}

const struct tour_exercise tour_shared_memory = {
    .name = "shared-memory",
    .shows = "same frames at other addresses, no message lost or torn",
    .breaks = "the reader maps a private copy",
    .id = ABI_SHARED_MEMORY,
    .steps = ABI_SHARED_STEPS,
    .command = shared_memory_command,
    .checkpoint = shared_memory_checkpoint,
    .memory_map = { ABI_SHARED_MAPPED, 1, "two processes have mapped the object" },
    .conclude = shared_memory_conclude,
    .state_bytes = sizeof(struct state),
};
