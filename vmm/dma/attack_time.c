/* Attacks on the life of a mapping: before it, after it, and when its end is put off. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "devices/iommu/dma.h"
#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define BOTH           (RULES_READ | RULES_WRITE)
#define WITHHELD_BYTES 64
#define WAITED_MS      100  /* a driver that has not given up by then waits for ever */
#define ENDS_MS        5000 /* one that gives up has done so by then, after its own time */
#define LAZY_TRIES     6    /* a flush may happen to come between unmap and access */
#define DRAIN_MS       2000
#define HELD_MS        20

static void sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

    nanosleep(&time, NULL);
}

/* Maps the scratch page, with fresh canaries: its address, 0 if that failed. */
static uint64_t map_scratch(struct lab *lab, struct lab_cell *cell, struct lab_page *page)
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

/* The page at this address, and where that is void, at its own. */
static struct lab_victim page_at(struct lab *lab, unsigned device, struct lab_page *page,
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
static enum lab_gate after_unmap(struct lab *lab, unsigned device)
{
    bool pool = rules_bounces(lab->policy, device);

    return rules_untranslated(lab->policy, device) || pool ? LAB_ANY : LAB_SHUT;
}

/* ---- withheld-completion ----------------------------------------------------------------- */

static void probe_do(struct probe *probe, enum abi_probe_attack attack)
{
    probe_attack(probe, attack);
}

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
    iova = map_scratch(lab, cell, page);
    if (!iova)
        return;
    probe_do(probe, ABI_PROBE_WITHHOLD);
    transfer.dma.iova = iova;
    transfer.dma.bytes = WITHHELD_BYTES;
    transfer.dma.rights = RULES_READ;
    err = lab_guest_post(&lab->guest, &transfer, 1);
    if (!err)
        err = lab_guest_collect(&lab->guest, &transfer, 1,
                                timeout_ms ? timeout_ms + ENDS_MS : WAITED_MS);
    lab_check(cell, (err == 0) == (timeout_ms != 0),
              "the driver's wait: expected %s, observed that it %s", timeout_ms ? "an end" : "none",
              err ? "goes on" : "ended");
    if (!err) {
        lab_check(cell, transfer.result == -ABI_ETIMEDOUT, "transfer: expected %d, observed %lld",
                  -ABI_ETIMEDOUT, (long long)transfer.result);
        request.gate = after_unmap(lab, cell->device);
    }
    /* The page has other contents by now. While the driver waits, the world goes on. */
    if (err)
        vm_pause(lab->vm, NULL);
    lab_renew(lab, page);
    victim = page_at(lab, cell->device, page, iova);
    lab_attack(lab, cell, &request, &victim, BOTH);
    if (err)
        vm_resume(lab->vm, NULL);
    probe_do(probe, ABI_PROBE_RELEASE);
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
        uint64_t iova = map_scratch(lab, cell, page);
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
        victim = page_at(lab, cell->device, page, iova);
        request.gate = lazy ? LAB_ANY : after_unmap(lab, cell->device);
        lab_attack(lab, cell, &request, &victim, BOTH);
        lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
        if (rules_untranslated(lab->policy, cell->device))
            continue;
        /* After the flush nothing is left, however lazy. */
        request.gate = after_unmap(lab, cell->device);
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
    uint64_t iova = map_scratch(lab, cell, page);
    const struct dma_range range = { .iova = iova,
                                     .len = ATTACK_PAGE_BYTES,
                                     .direction = DMA_READ };
    struct abi_lab_command both[2];
    struct iovec piece;
    int pieces, err;

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
    err = lab_guest_post(&lab->guest, both, 2);
    for (unsigned waited = 0; !err && waited < DRAIN_MS; waited++) {
        if (__atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE))
            break;
        sleep_ms(1);
    }
    lab_check(cell, __atomic_load_n(&held.cancelled, __ATOMIC_ACQUIRE),
              "unmap while a transfer is in flight: expected it to be cancelled, observed nothing");
    err = lab_guest_collect(&lab->guest, both, 2, HELD_MS);
    lab_check(cell, err != 0,
              "unmap while a transfer is in flight: expected it to wait, observed its return");
    dma_transfer_end(&held.transfer);
    if (err && lab_guest_collect(&lab->guest, both, 2, LAB_CALL_MS))
        snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                 "unmap does not come back though the transfer in flight has ended");
}

void run_stale_pointer(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    bool pool = rules_bounces(lab->policy, cell->device);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct dma *door = lab->door[cell->device];
    struct lab_request request = { .device = cell->device, .gate = after_unmap(lab, cell->device) };
    struct dma_window window = { 0 };
    struct lab_victim victim;
    uint8_t *kept, *again;
    uint64_t iova = map_scratch(lab, cell, page);
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
    victim = page_at(lab, cell->device, page, iova);
    cell->observed.read_bytes = 0;
    lab_attack(lab, cell, &request, &victim, BOTH);
    if (again && !cell->observed.read_bytes && !untranslated && !pool)
        cell->observed.read_bytes = ATTACK_PAGE_BYTES;
    lab_conclude(cell);
    if (!untranslated && !pool && !lab_settle(lab))
        in_flight(lab, cell, page);
}

/* ---- pre-init
 * ------------------------------------------------------------------------------------ */

void attack_before_attach(struct lab *lab, unsigned device, uint64_t gpa, bool booted)
{
    struct lab_cell *cell = &lab->boot[device];
    /* The IOMMU's driver ends the bypass before it does anything else. */
    bool open = !lab->policy->iommu || (lab->policy->iommu_config.boot_bypass && !booted);
    struct lab_effect earlier = cell->observed;
    const struct lab_request request = { .device = device, .gate = open ? LAB_OPEN : LAB_ANY };
    struct iommu_fault fault = { 0 };
    uint8_t truth[ATTACK_PAGE_BYTES];
    struct lab_victim victim = { .truth = truth,
                                 .len = ATTACK_PAGE_BYTES,
                                 .place = { memory_at(lab->memory, gpa, ATTACK_PAGE_BYTES) },
                                 .nplaces = 1 };
    uint64_t before = lab_faults(lab, NULL);

    if (!victim.place[0])
        return;
    cell->device = device;
    memcpy(truth, victim.place[0], sizeof(truth));
    lab_victim_add(&victim, gpa, LAB_NOBODY);
    cell->observed = (struct lab_effect){ 0 };
    lab_attack(lab, cell, &request, &victim, BOTH);
    if (cell->observed.read_bytes < earlier.read_bytes)
        cell->observed.read_bytes = earlier.read_bytes;
    if (cell->observed.write_bytes < earlier.write_bytes)
        cell->observed.write_bytes = earlier.write_bytes;
    lab_conclude(cell);
    if (open || !lab->iommu)
        return;
    lab_check(cell,
              lab_faults(lab, &fault) - before == 2 && fault.reason == IOMMU_FAULT_DOMAIN &&
                  fault.endpoint == rules_device(lab->policy, device)->endpoint,
              "before it is attached: expected 2 faults of endpoint %u for want of a domain, "
              "observed %llu, the last of endpoint %u, reason %d",
              rules_device(lab->policy, device)->endpoint,
              (unsigned long long)(lab_faults(lab, NULL) - before), fault.endpoint,
              (int)fault.reason);
}

/* A page that was mapped when the device was reset. */
static void after_reset(struct lab *lab, struct lab_cell *cell)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct lab_request request = { .device = cell->device, .gate = after_unmap(lab, cell->device) };
    uint64_t iova = map_scratch(lab, cell, page);
    struct lab_victim victim;
    int64_t result;

    if (!iova)
        return;
    result = lab_dma(lab, cell->device, ABI_DMA_RESET, &(struct abi_dma){ .iova = 0 });
    lab_check(cell, result == 0, "reset: expected 0, observed %lld", (long long)result);
    lab_renew(lab, page);
    victim = page_at(lab, cell->device, page, iova);
    lab_attack(lab, cell, &request, &victim, BOTH);
    lab_set_up_device(lab, cell->device);
}

/*
 * A page that its domain maps, by a mapping that the driver knows nothing of and cannot
 * take back before it detaches the device.
 */
static void after_detach(struct lab *lab, struct lab_cell *cell)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    struct lab_request request = { .device = cell->device,
                                   .iova = untranslated ? page->gpa : LAB_HIGH_IOVA,
                                   .len = ATTACK_PAGE_BYTES,
                                   .gate = LAB_OPEN };
    struct abi_dma map = {
        .iova = LAB_HIGH_IOVA, .bytes = ATTACK_PAGE_BYTES, .gpa = page->gpa, .rights = BOTH
    };
    struct lab_victim victim;
    int64_t result;

    lab_renew(lab, page);
    if (!untranslated) {
        result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
        lab_check(cell, !result && !map.value, "map a page: expected 0 and OK, observed %lld, %llu",
                  (long long)result, (unsigned long long)map.value);
    }
    lab_check(cell, lab_read(lab, cell, &request, page->truth) == ATTACK_PAGE_BYTES,
              "read while attached: expected the page, observed something else");
    result = lab_dma(lab, cell->device, ABI_DMA_DETACH, &map);
    lab_check(cell, result == 0, "detach: expected 0, observed %lld", (long long)result);
    victim = page_at(lab, cell->device, page, request.iova);
    request.gate = lab->policy->iommu ? LAB_SHUT : LAB_OPEN;
    lab_attack(lab, cell, &request, &victim, BOTH);
    /* In a domain that others keep alive, it is still there. */
    map.last = LAB_HIGH_IOVA + ATTACK_PAGE_BYTES - 1;
    if (!untranslated)
        lab_dma(lab, cell->device, ABI_DMA_RAW_UNMAP, &map);
    lab_set_up_device(lab, cell->device);
}

void run_pre_init(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_cell *boot = &lab->boot[cell->device];

    if (n) {
        (n == 1 ? after_reset : after_detach)(lab, cell);
        return;
    }
    cell->observed.succeeds = boot->observed.succeeds;
    cell->observed.read_bytes = boot->observed.read_bytes;
    cell->observed.write_bytes = boot->observed.write_bytes;
    lab_merge(cell, boot);
}
