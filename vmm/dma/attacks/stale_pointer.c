/* A translation is kept past the unmap. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "devices/iommu/dma.h"
#include "devices/iommu/dma_transfer.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/scratch.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define HELD_MS 20

static bool stale_pointer_expect(const struct policy *policy, unsigned device, unsigned n,
                                 struct attack_plan *plan)
{
    static const struct expect_page page = {
        .target = "replay",
        .why_not = "a translation that was kept is void once its mapping is gone",
    };

    return expect_page(policy, device, n, &page, plan);
}

struct held {
    struct dma_transfer transfer; /* first: cancel gets it */
    bool cancelled;
};

static void stale_pointer_cancel(struct dma_transfer *transfer)
{
    __atomic_store_n(&((struct held *)transfer)->cancelled, true, __ATOMIC_RELEASE);
}

/* A transfer in flight while the guest unmaps: the unmap must not return before it ended. */
static void stale_pointer_in_flight(struct harness *harness, struct matrix_cell *cell,
                                    struct harness_page *page)
{
    struct dma *dma = harness->dma[cell->device];
    struct held held = { .transfer.cancel = stale_pointer_cancel };
    struct abi_harness_command unmap = harness_command(cell->device, ABI_DMA_UNMAP), flush = unmap;
    uint64_t iova = scratch_map(harness, cell, page);
    const struct dma_range range = { .iova = iova,
                                     .len = ATTACK_PAGE_BYTES,
                                     .direction = DMA_READ };
    struct abi_harness_command both[2];
    struct iovec piece;
    int pieces;
    bool ended;

    if (!iova)
        return;
    dma_lock(dma);
    pieces = dma_transfer_begin(dma, &held.transfer, &range, 1, &piece, 1);
    dma_unlock(dma);
    if (!harness_check(cell, pieces == 1, "begin a transfer: expected 1 piece, observed %d",
                       pieces))
        return;
    unmap.dma.iova = iova;
    flush.operation = ABI_DMA_FLUSH;
    both[0] = unmap;
    both[1] = flush;
    ended = harness_guest_post(&harness->guest, both, 2) != 0;
    for (unsigned waited = 0; !ended && waited < HARNESS_CALL_MS; waited++) {
        if (__atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE))
            break;
        harness_sleep_ms(1);
        ended = harness_guest_collect(&harness->guest, both, 2, 0) != -ETIMEDOUT;
    }
    harness_check(
        cell, __atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE),
        "unmap while a transfer is in flight: expected it to be cancelled, observed nothing");
    ended = ended || harness_guest_collect(&harness->guest, both, 2, HELD_MS) != -ETIMEDOUT;
    harness_check(cell, !ended,
                  "unmap while a transfer is in flight: expected it to wait, observed its return");
    dma_transfer_end(&held.transfer);
    if (!ended && harness_guest_collect(&harness->guest, both, 2, HARNESS_CALL_MS))
        snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                 "unmap does not come back though the transfer in flight has ended");
}

/* The probe keeps what the page translates to, for writing. */
static void stale_pointer_remember(struct harness *harness, struct matrix_cell *cell,
                                   struct probe *probe, uint64_t iova)
{
    dma_lock(harness->dma[cell->device]);
    probe->state.address = iova;
    probe->state.length = ATTACK_PAGE_BYTES;
    probe->state.flags = ABI_PROBE_FLAG_WRITE;
    dma_unlock(harness->dma[cell->device]);
    probe_attack(probe, ABI_PROBE_REMEMBER);
    harness_check(cell, probe->state.result == ATTACK_PAGE_BYTES,
                  "the probe remembers: expected a page, observed %llu bytes",
                  (unsigned long long)probe->state.result);
}

/* And writes there once more, when the page has another owner. True: it changed. */
static bool stale_pointer_replay(struct harness *harness, struct matrix_cell *cell,
                                 struct probe *probe, struct harness_page *page)
{
    bool changed;

    dma_lock(harness->dma[cell->device]);
    for (unsigned i = 0; i < ATTACK_PAGE_BYTES; i++)
        probe->state.buffer[i] = (uint8_t)~page->expected_bytes[i];
    dma_unlock(harness->dma[cell->device]);
    probe_attack(probe, ABI_PROBE_REPLAY);
    changed = memcmp(page->host, page->expected_bytes, ATTACK_PAGE_BYTES) != 0;
    harness_check(cell, changed == (probe->state.error == 0),
                  "the probe replays: expected %s, observed error %llu",
                  changed ? "none" : "an error", (unsigned long long)probe->state.error);
    harness_restore(page);
    return changed;
}

static void stale_pointer_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    bool pool = rules_bounces(harness->policy, cell->device);
    bool untranslated = rules_untranslated(harness->policy, cell->device);
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    struct probe *probe = board_model(harness->board, cell->device, &probe_ops);
    struct dma *dma = harness->dma[cell->device];
    struct harness_request request = { .device = cell->device,
                                       .expect = scratch_gate_after_unmap(harness, cell->device) };
    struct dma_window window = { 0 };
    struct harness_victim victim;
    uint8_t *kept, *again;
    uint64_t iova = scratch_map(harness, cell, page);
    bool fault = false;

    (void)n;
    if (!iova)
        return;
    dma_lock(dma);
    kept = dma_window(dma, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    dma_unlock(dma);
    harness_check(cell, kept && !memcmp(kept, page->expected_bytes, ATTACK_PAGE_BYTES),
                  "a window while mapped: expected the page, observed %s",
                  kept ? "something else" : "none");
    if (probe)
        stale_pointer_remember(harness, cell, probe, iova);
    harness_dma(harness, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
    harness_dma(harness, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
    harness_renew(harness, page);
    dma_lock(dma);
    again = dma_window(dma, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    if (again && !memcmp(again, page->expected_bytes, ATTACK_PAGE_BYTES))
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    dma_unlock(dma);
    harness_check(cell, untranslated || pool ? again != NULL : !again && fault,
                  "the window after the unmap: expected %s, observed %s",
                  untranslated || pool ? "it as before" : "a fault",
                  again ? "it as before" : "none");
    /* A slot is there for good, and for others by now. */
    if (probe && !pool)
        harness_check(cell, stale_pointer_replay(harness, cell, probe, page) == untranslated,
                      "the probe replays: expected the page %s, observed the contrary",
                      untranslated ? "to change" : "not to change");
    victim = scratch_victim(harness, cell->device, page, iova);
    cell->observed.read_bytes = 0;
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    if (again && !cell->observed.read_bytes && !untranslated && !pool)
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    harness_conclude(cell);
    if (!untranslated && !pool && !harness_settle(harness))
        stale_pointer_in_flight(harness, cell, page);
}

const struct attack attack_stale_pointer = {
    .name = "stale-pointer",
    .mechanism = "a translation is kept past the unmap",
    .stopped_by = "a generation counter; translate anew",
    .source = "rings translated once, when a queue is enabled",
    .expect = stale_pointer_expect,
    .run = stale_pointer_run,
};
