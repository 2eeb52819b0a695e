/* Attacks on the life of a mapping: after it, and when its end is put off. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "devices/iommu/dma.h"
#include "guest/abi/syscall.h"
#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define BOTH           (RULES_READ | RULES_WRITE)
#define WITHHELD_BYTES 64
#define WAITED_MS      100 /* a driver that has not given up by then waits for ever */
#define LAZY_TRIES     6   /* a flush may happen to come between unmap and access */
#define HELD_MS        20
#define STILL_TRIES    8
#define SHORT_MS       100 /* of a driver's patience: waiting for longer takes its time */

static void sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

    nanosleep(&time, NULL);
}

uint64_t attack_map_scratch(struct lab *lab, struct lab_cell *cell, struct lab_page *page)
{
    struct abi_lab_command map = lab_map_command(lab, cell->device, (unsigned)(page - lab->arena),
                                                 BOTH);

    lab_renew(lab, page);
    if (lab_call(lab, &map, 1))
        return 0;
    lab_check(cell, map.result == 0, "map a page: expected 0, observed %lld",
              (long long)map.result);
    return map.result ? 0 : map.dma.iova;
}

struct lab_victim attack_page_at(struct lab *lab, unsigned device, struct lab_page *page,
                                 uint64_t iova)
{
    struct lab_victim victim;

    lab_victim_page(&victim, page);
    if (!rules_untranslated(lab->policy, device))
        victim.naddresses = 0;
    lab_victim_add(&victim, iova, LAB_NOBODY);
    return victim;
}

/* A slot of a pool is mapped for good; only what is in it tells. */
enum lab_gate attack_after_unmap(struct lab *lab, unsigned device)
{
    bool pool = rules_bounces(lab->policy, device);

    return rules_untranslated(lab->policy, device) || pool ? LAB_ANY : LAB_SHUT;
}

static bool is_withheld(struct lab *lab, unsigned device, const struct probe *probe)
{
    bool withheld;

    dma_lock(lab->door[device]);
    withheld = probe->state.withheld;
    dma_unlock(lab->door[device]);
    return withheld;
}

/*
 * A transfer that is completed at the end of a time in which no CPU has run, longer than the
 * driver waits: before the CPUs run again, or a little after.
 */
static long long transfer_standing(struct lab *lab, struct lab_cell *cell, struct probe *probe,
                                   struct lab_page *page, unsigned timeout_ms, bool before)
{
    struct abi_lab_command transfer = lab_command(cell->device, ABI_DMA_TRANSFER);
    int err;

    transfer.dma.iova = attack_map_scratch(lab, cell, page);
    transfer.dma.bytes = WITHHELD_BYTES;
    transfer.dma.rights = RULES_READ;
    if (!transfer.dma.iova)
        return -ABI_ENOMEM;
    probe_attack(probe, ABI_PROBE_WITHHOLD);
    err = lab_guest_post(&lab->guest, &transfer, 1);
    err = err ? err : -ETIMEDOUT;
    for (unsigned waited = 0; err == -ETIMEDOUT && waited < LAB_CALL_MS; waited++) {
        if (is_withheld(lab, cell->device, probe))
            break;
        sleep_ms(1);
        err = lab_guest_collect(&lab->guest, &transfer, 1, 0);
    }
    if (err == -ETIMEDOUT) {
        vm_pause(lab->vm, NULL);
        sleep_ms(3 * timeout_ms);
        if (before)
            probe_attack(probe, ABI_PROBE_RELEASE);
        vm_resume(lab->vm, NULL);
        if (!before)
            sleep_ms(timeout_ms / 4);
    }
    probe_attack(probe, ABI_PROBE_RELEASE);
    if (err == -ETIMEDOUT)
        err = lab_guest_collect(&lab->guest, &transfer, 1, LAB_CALL_MS);
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = transfer.dma.iova });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = transfer.dma.iova });
    return err ? err : transfer.result;
}

/* A driver's patience is with the device: while no CPU runs none of it goes. */
static void stand_still(struct lab *lab, struct lab_cell *cell, struct probe *probe,
                        struct lab_page *page, unsigned timeout_ms, bool before)
{
    long long result = -1;

    /* On a busy host it may have given up just before the CPUs stopped. */
    for (unsigned tries = 0; result != 0 && tries < STILL_TRIES; tries++) {
        if (tries)
            lab_set_up_device(lab, cell->device);
        result = transfer_standing(lab, cell, probe, page, timeout_ms, before);
    }
    lab_check(cell, result == 0, "transfer completed %s no CPU ran: expected 0, observed %lld",
              before ? "while" : "soon after", result);
}

/* ---- withheld-completion ----------------------------------------------------------------- */

void run_withheld_completion(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct probe *probe = board_probe(lab->board, cell->device);
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    uint32_t timeout_ms = rules_device(lab->policy, cell->device)->timeout_ms;
    struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct abi_lab_command transfer = lab_command(cell->device, ABI_DMA_TRANSFER);
    struct lab_victim victim;
    uint64_t iova;
    int err;

    (void)n;
    if (!lab_check(cell, probe != NULL, "expected a probe, observed none"))
        return;
    iova = attack_map_scratch(lab, cell, page);
    if (!iova)
        return;
    probe_attack(probe, ABI_PROBE_WITHHOLD);
    transfer.dma.iova = iova;
    transfer.dma.bytes = WITHHELD_BYTES;
    transfer.dma.rights = RULES_READ;
    err = lab_guest_post(&lab->guest, &transfer, 1);
    if (!err)
        err = lab_guest_collect(&lab->guest, &transfer, 1,
                                timeout_ms ? timeout_ms + LAB_CALL_MS : WAITED_MS);
    lab_check(cell, (err == 0) == (timeout_ms != 0),
              "the driver's wait: expected %s, observed that it %s", timeout_ms ? "an end" : "none",
              err ? "goes on" : "ended");
    if (!err) {
        lab_check(cell, transfer.result == -ABI_ETIMEDOUT, "transfer: expected %d, observed %lld",
                  -ABI_ETIMEDOUT, (long long)transfer.result);
        request.gate = attack_after_unmap(lab, cell->device);
    }
    /* The page has other contents by now. While the driver waits, the world goes on. */
    if (err)
        vm_pause(lab->vm, NULL);
    lab_renew(lab, page);
    victim = attack_page_at(lab, cell->device, page, iova);
    lab_attack(lab, cell, &request, &victim, BOTH);
    if (err)
        vm_resume(lab->vm, NULL);
    probe_attack(probe, ABI_PROBE_RELEASE);
    if (err && lab_guest_collect(&lab->guest, &transfer, 1, LAB_CALL_MS))
        snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                 "the guest's driver never came back from a completion that was withheld");
    /* Gone already, where the driver took it away. */
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
    /* A copy goes back to the page, which had other contents meanwhile. */
    if (rules_bounces(lab->policy, cell->device))
        lab_restore(page);
    lab_set_up_device(lab, cell->device);
    if (timeout_ms && timeout_ms <= SHORT_MS) {
        stand_still(lab, cell, probe, page, timeout_ms, false);
        stand_still(lab, cell, probe, page, timeout_ms, true);
    }
}

/* ---- deferred-invalidation ------------------------------------------------------------------ */

void run_deferred_invalidation(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    bool lazy = rules_device(lab->policy, cell->device)->mode == ABI_DMA_LAZY;
    unsigned tries = cell->expected.succeeds ? LAZY_TRIES : 1;

    (void)n;
    lab_merge(cell, &lab->unmapping[cell->device]);
    for (unsigned i = 0; i < tries && !cell->observed.succeeds; i++) {
        struct lab_request request = { .device = cell->device, .gate = LAB_OPEN };
        uint8_t old[ATTACK_PAGE_BYTES];
        struct lab_victim victim;
        uint64_t iova = attack_map_scratch(lab, cell, page);
        int64_t result;

        if (!iova)
            return;
        /* Legitimate, and now whoever caches translations has this one. */
        request.iova = iova;
        request.len = ATTACK_PAGE_BYTES;
        memcpy(old, page->truth, sizeof(old));
        lab_check(cell, lab_read(lab, cell, &request, old) == sizeof(old),
                  "read while mapped: expected the page, observed something else");
        result = lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
        lab_check(cell, result == 0, "unmap: expected 0, observed %lld", (long long)result);
        /* The driver has the page back and uses it for something else. */
        lab_renew(lab, page);
        victim = attack_page_at(lab, cell->device, page, iova);
        request.gate = lazy ? LAB_ANY : attack_after_unmap(lab, cell->device);
        lab_attack(lab, cell, &request, &victim, BOTH);
        lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
        if (rules_untranslated(lab->policy, cell->device))
            continue;
        /* After the flush nothing is left, however lazy. */
        request.gate = attack_after_unmap(lab, cell->device);
        lab_check(cell, lab_read(lab, cell, &request, page->truth) == 0,
                  "read after the flush: expected nothing, observed the page");
    }
}

/* ---- stale-pointer -----------------------------------------------------------------------------
 */

struct held {
    struct dma_transfer transfer; /* first: cancel gets it */
    bool cancelled;
};

static void cancel(struct dma_transfer *transfer)
{
    __atomic_store_n(&((struct held *)transfer)->cancelled, true, __ATOMIC_RELEASE);
}

/* A transfer in flight while the guest unmaps: the unmap must not return before it ended. */
static void in_flight(struct lab *lab, struct lab_cell *cell, struct lab_page *page)
{
    struct dma *door = lab->door[cell->device];
    struct held held = { .transfer.cancel = cancel };
    struct abi_lab_command unmap = lab_command(cell->device, ABI_DMA_UNMAP), flush = unmap;
    uint64_t iova = attack_map_scratch(lab, cell, page);
    const struct dma_range range = { .iova = iova,
                                     .len = ATTACK_PAGE_BYTES,
                                     .direction = DMA_READ };
    struct abi_lab_command both[2];
    struct iovec piece;
    int pieces;
    bool ended;

    if (!iova)
        return;
    dma_lock(door);
    pieces = dma_transfer_begin(door, &held.transfer, &range, 1, &piece, 1);
    dma_unlock(door);
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
        sleep_ms(1);
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
static void remember(struct lab *lab, struct lab_cell *cell, struct probe *probe, uint64_t iova)
{
    dma_lock(lab->door[cell->device]);
    probe->state.address = iova;
    probe->state.length = ATTACK_PAGE_BYTES;
    probe->state.flags = ABI_PROBE_FLAG_WRITE;
    dma_unlock(lab->door[cell->device]);
    probe_attack(probe, ABI_PROBE_REMEMBER);
    lab_check(cell, probe->state.result == ATTACK_PAGE_BYTES,
              "the probe remembers: expected a page, observed %llu bytes",
              (unsigned long long)probe->state.result);
}

/* And writes there once more, when the page is somebody else's: whether it changed. */
static bool replay(struct lab *lab, struct lab_cell *cell, struct probe *probe,
                   struct lab_page *page)
{
    bool changed;

    dma_lock(lab->door[cell->device]);
    for (unsigned i = 0; i < ATTACK_PAGE_BYTES; i++)
        probe->state.buffer[i] = (uint8_t)~page->truth[i];
    dma_unlock(lab->door[cell->device]);
    probe_attack(probe, ABI_PROBE_REPLAY);
    changed = memcmp(page->host, page->truth, ATTACK_PAGE_BYTES) != 0;
    lab_check(cell, changed == (probe->state.error == 0),
              "the probe replays: expected %s, observed error %llu", changed ? "none" : "an error",
              (unsigned long long)probe->state.error);
    lab_restore(page);
    return changed;
}

void run_stale_pointer(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    bool pool = rules_bounces(lab->policy, cell->device);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct probe *probe = board_probe(lab->board, cell->device);
    struct dma *door = lab->door[cell->device];
    struct lab_request request = { .device = cell->device,
                                   .gate = attack_after_unmap(lab, cell->device) };
    struct dma_window window = { 0 };
    struct lab_victim victim;
    uint8_t *kept, *again;
    uint64_t iova = attack_map_scratch(lab, cell, page);
    bool fault = false;

    (void)n;
    if (!iova)
        return;
    dma_lock(door);
    kept = dma_window(door, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    dma_unlock(door);
    lab_check(cell, kept && !memcmp(kept, page->truth, ATTACK_PAGE_BYTES),
              "a window while mapped: expected the page, observed %s",
              kept ? "something else" : "none");
    if (probe)
        remember(lab, cell, probe, iova);
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
    lab_renew(lab, page);
    dma_lock(door);
    again = dma_window(door, &window, iova, ATTACK_PAGE_BYTES, DMA_READ, &fault);
    if (again && !memcmp(again, page->truth, ATTACK_PAGE_BYTES))
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    dma_unlock(door);
    lab_check(cell, untranslated || pool ? again != NULL : !again && fault,
              "the window after the unmap: expected %s, observed %s",
              untranslated || pool ? "it as before" : "a fault", again ? "it as before" : "none");
    /* A slot is there for good, and for others by now. */
    if (probe && !pool)
        lab_check(cell, replay(lab, cell, probe, page) == untranslated,
                  "the probe replays: expected the page %s, observed the contrary",
                  untranslated ? "to change" : "not to change");
    victim = attack_page_at(lab, cell->device, page, iova);
    cell->observed.read_bytes = 0;
    lab_attack(lab, cell, &request, &victim, BOTH);
    if (again && !cell->observed.read_bytes && !untranslated && !pool)
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    lab_conclude(cell);
    if (!untranslated && !pool && !lab_settle(lab))
        in_flight(lab, cell, page);
}
