/* A translation is kept past the unmap. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "devices/iommu/dma.h"
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
static void stale_pointer_in_flight(struct lab *lab, struct lab_cell *cell, struct lab_page *page)
{
    struct dma *dma = lab->dma[cell->device];
    struct held held = { .transfer.cancel = stale_pointer_cancel };
    struct abi_lab_command unmap = lab_command(cell->device, ABI_DMA_UNMAP), flush = unmap;
    uint64_t iova = scratch_map(lab, cell, page);
    const struct dma_range range = { .iova = iova,
                                     .len = ATTACK_PAGE_BYTES,
                                     .direction = DMA_READ };
    struct abi_lab_command both[2];
    struct iovec piece;
    int pieces;
    bool ended;

    if (!iova)
        return;
    dma_lock(dma);
    pieces = dma_transfer_begin(dma, &held.transfer, &range, 1, &piece, 1);
    dma_unlock(dma);
    if (!lab_check(cell, pieces == 1, "begin a transfer: expected 1 piece, observed %d", pieces))
        return;
    unmap.dma.iova = iova;
    flush.operation = ABI_DMA_FLUSH;
    both[0] = unmap;
    both[1] = flush;
    ended = lab_guest_post(&lab->guest, both, 2) != 0;
    for (unsigned waited = 0; !ended && waited < LAB_CALL_MS; waited++) {
        if (__atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE))
            break;
        lab_sleep_ms(1);
        ended = lab_guest_collect(&lab->guest, both, 2, 0) != -ETIMEDOUT;
    }
    lab_check(cell, __atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE),
              "unmap while a transfer is in flight: expected it to be cancelled, observed nothing");
    ended = ended || lab_guest_collect(&lab->guest, both, 2, HELD_MS) != -ETIMEDOUT;
    lab_check(cell, !ended,
              "unmap while a transfer is in flight: expected it to wait, observed its return");
    dma_transfer_end(&held.transfer);
    if (!ended && lab_guest_collect(&lab->guest, both, 2, LAB_CALL_MS))
        snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                 "unmap does not come back though the transfer in flight has ended");
}

/* The probe keeps what the page translates to, for writing. */
static void stale_pointer_remember(struct lab *lab, struct lab_cell *cell, struct probe *probe,
                                   uint64_t iova)
{
    dma_lock(lab->dma[cell->device]);
    probe->state.address = iova;
    probe->state.length = ATTACK_PAGE_BYTES;
    probe->state.flags = ABI_PROBE_FLAG_WRITE;
    dma_unlock(lab->dma[cell->device]);
    probe_attack(probe, ABI_PROBE_REMEMBER);
    lab_check(cell, probe->state.result == ATTACK_PAGE_BYTES,
              "the probe remembers: expected a page, observed %llu bytes",
              (unsigned long long)probe->state.result);
}

/* And writes there once more, when the page is somebody else's: whether it changed. */
static bool stale_pointer_replay(struct lab *lab, struct lab_cell *cell, struct probe *probe,
                                 struct lab_page *page)
{
    bool changed;

    dma_lock(lab->dma[cell->device]);
    for (unsigned i = 0; i < ATTACK_PAGE_BYTES; i++)
        probe->state.buffer[i] = (uint8_t)~page->truth[i];
    dma_unlock(lab->dma[cell->device]);
    probe_attack(probe, ABI_PROBE_REPLAY);
    changed = memcmp(page->host, page->truth, ATTACK_PAGE_BYTES) != 0;
    lab_check(cell, changed == (probe->state.error == 0),
              "the probe replays: expected %s, observed error %llu", changed ? "none" : "an error",
              (unsigned long long)probe->state.error);
    lab_restore(page);
    return changed;
}

static void stale_pointer_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    bool pool = rules_bounces(lab->policy, cell->device);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct probe *probe = board_probe(lab->board, cell->device);
    struct dma *dma = lab->dma[cell->device];
    struct lab_request request = { .device = cell->device,
                                   .gate = scratch_gate_after_unmap(lab, cell->device) };
    struct dma_window window = { 0 };
    struct lab_victim victim;
    uint8_t *kept, *again;
    uint64_t iova = scratch_map(lab, cell, page);
    bool fault = false;

    (void)n;
    if (!iova)
        return;
    dma_lock(dma);
    kept = dma_window(dma, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    dma_unlock(dma);
    lab_check(cell, kept && !memcmp(kept, page->truth, ATTACK_PAGE_BYTES),
              "a window while mapped: expected the page, observed %s",
              kept ? "something else" : "none");
    if (probe)
        stale_pointer_remember(lab, cell, probe, iova);
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
    lab_renew(lab, page);
    dma_lock(dma);
    again = dma_window(dma, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    if (again && !memcmp(again, page->truth, ATTACK_PAGE_BYTES))
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    dma_unlock(dma);
    lab_check(cell, untranslated || pool ? again != NULL : !again && fault,
              "the window after the unmap: expected %s, observed %s",
              untranslated || pool ? "it as before" : "a fault", again ? "it as before" : "none");
    /* A slot is there for good, and for others by now. */
    if (probe && !pool)
        lab_check(cell, stale_pointer_replay(lab, cell, probe, page) == untranslated,
                  "the probe replays: expected the page %s, observed the contrary",
                  untranslated ? "to change" : "not to change");
    victim = scratch_victim(lab, cell->device, page, iova);
    cell->observed.read_bytes = 0;
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    if (again && !cell->observed.read_bytes && !untranslated && !pool)
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    lab_conclude(cell);
    if (!untranslated && !pool && !lab_settle(lab))
        stale_pointer_in_flight(lab, cell, page);
}

const struct attack attack_stale_pointer = {
    .name = "stale-pointer",
    .mechanism = "a translation is kept past the unmap",
    .stopped_by = "a generation counter; translate anew",
    .source = "rings translated once, when a queue is enabled",
    .expect = stale_pointer_expect,
    .run = stale_pointer_run,
};
