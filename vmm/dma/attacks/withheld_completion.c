/* The device withholds completion, so that what it may reach stays so. */
#include <errno.h>
#include <stdio.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "devices/iommu/dma.h"
#include "guest/abi/syscall.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/scratch.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/vm.h"

#define WITHHELD_BYTES 64
#define WAITED_MS      100 /* a driver that has not given up by then waits for ever */
#define STILL_TRIES    8
#define SHORT_MS       100 /* of a driver's patience: waiting for longer takes its time */

static bool withheld_completion_expect(const struct policy *policy, unsigned device, unsigned n,
                                       struct attack_plan *plan)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    const struct expect_page page = {
        .target = "buffer",
        .weak = !d->timeout_ms && !rules_bounces(policy, device),
        .why_weak = "no timeout: the driver waits, and the buffer stays mapped",
        .why_not = d->timeout_ms ? "timeout: the driver unmaps and resets the device"
                                 : "the device has a copy; the page itself is not mapped",
    };

    if (d->kind != ABI_DEVICE_PROBE) {
        expect_none(plan, "buffer", "its driver has no transfer that could be withheld");
        return n == 0;
    }
    return expect_page(policy, device, n, &page, plan);
}

static bool withheld_completion_is_withheld(struct harness *harness, unsigned device,
                                            const struct probe *probe)
{
    bool withheld;

    dma_lock(harness->dma[device]);
    withheld = probe->state.withheld;
    dma_unlock(harness->dma[device]);
    return withheld;
}

/*
 * A transfer that is completed at the end of a time in which no CPU has run, longer than the
 * driver waits: before the CPUs run again, or a little after.
 */
static long long withheld_completion_transfer(struct harness *harness, struct matrix_cell *cell,
                                              bool before)
{
    struct probe *probe = board_model(harness->board, cell->device, &probe_ops);
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    unsigned timeout_ms = rules_device(harness->policy, cell->device)->timeout_ms;
    struct abi_harness_command transfer = harness_command(cell->device, ABI_DMA_TRANSFER);
    int err;

    transfer.dma.iova = scratch_map(harness, cell, page);
    transfer.dma.bytes = WITHHELD_BYTES;
    transfer.dma.rights = RULES_READ;
    if (!transfer.dma.iova)
        return -ABI_ENOMEM;
    probe_attack(probe, ABI_PROBE_WITHHOLD);
    err = harness_guest_post(&harness->guest, &transfer, 1);
    err = err ? err : -ETIMEDOUT;
    for (unsigned waited = 0; err == -ETIMEDOUT && waited < HARNESS_CALL_MS; waited++) {
        if (withheld_completion_is_withheld(harness, cell->device, probe))
            break;
        harness_sleep_ms(1);
        err = harness_guest_collect(&harness->guest, &transfer, 1, 0);
    }
    if (err == -ETIMEDOUT) {
        vm_pause(harness->vm, NULL);
        harness_sleep_ms(3 * timeout_ms);
        if (before)
            probe_attack(probe, ABI_PROBE_RELEASE);
        vm_resume(harness->vm, NULL);
        if (!before)
            harness_sleep_ms(timeout_ms / 4);
    }
    probe_attack(probe, ABI_PROBE_RELEASE);
    if (err == -ETIMEDOUT)
        err = harness_guest_collect(&harness->guest, &transfer, 1, HARNESS_CALL_MS);
    harness_dma(harness, cell->device, ABI_DMA_UNMAP,
                &(struct abi_dma){ .iova = transfer.dma.iova });
    harness_dma(harness, cell->device, ABI_DMA_FLUSH,
                &(struct abi_dma){ .iova = transfer.dma.iova });
    return err ? err : transfer.result;
}

/* A driver's patience is with the device: while no CPU runs none of it goes. */
static void withheld_completion_stand_still(struct harness *harness, struct matrix_cell *cell,
                                            bool before)
{
    long long result = -1;

    /* On a busy host it may have given up just before the CPUs stopped. */
    for (unsigned tries = 0; result != 0 && tries < STILL_TRIES; tries++) {
        if (tries)
            harness_set_up_device(harness, cell->device);
        result = withheld_completion_transfer(harness, cell, before);
    }
    harness_check(cell, result == 0, "transfer completed %s no CPU ran: expected 0, observed %lld",
                  before ? "while" : "soon after", result);
}

static void withheld_completion_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct probe *probe = board_model(harness->board, cell->device, &probe_ops);
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    uint32_t timeout_ms = rules_device(harness->policy, cell->device)->timeout_ms;
    struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ANY };
    struct abi_harness_command transfer = harness_command(cell->device, ABI_DMA_TRANSFER);
    struct harness_victim victim;
    uint64_t iova;
    int err;

    (void)n;
    if (!harness_check(cell, probe != NULL, "expected a probe, observed none"))
        return;
    iova = scratch_map(harness, cell, page);
    if (!iova)
        return;
    probe_attack(probe, ABI_PROBE_WITHHOLD);
    transfer.dma.iova = iova;
    transfer.dma.bytes = WITHHELD_BYTES;
    transfer.dma.rights = RULES_READ;
    err = harness_guest_post(&harness->guest, &transfer, 1);
    if (!err)
        err = harness_guest_collect(&harness->guest, &transfer, 1,
                                    timeout_ms ? timeout_ms + HARNESS_CALL_MS : WAITED_MS);
    harness_check(cell, (err == 0) == (timeout_ms != 0),
                  "the driver's wait: expected %s, observed that it %s",
                  timeout_ms ? "an end" : "none", err ? "goes on" : "ended");
    if (!err) {
        harness_check(cell, transfer.result == -ABI_ETIMEDOUT,
                      "transfer: expected %d, observed %lld", -ABI_ETIMEDOUT,
                      (long long)transfer.result);
        request.expect = scratch_gate_after_unmap(harness, cell->device);
    }
    /* The page has other contents by now. While the driver waits, the world goes on. */
    if (err)
        vm_pause(harness->vm, NULL);
    harness_renew(harness, page);
    victim = scratch_victim(harness, cell->device, page, iova);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    if (err)
        vm_resume(harness->vm, NULL);
    probe_attack(probe, ABI_PROBE_RELEASE);
    if (err && harness_guest_collect(&harness->guest, &transfer, 1, HARNESS_CALL_MS))
        snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                 "the guest's driver never came back from a completion that was withheld");
    /* Gone already, where the driver took it away. */
    harness_dma(harness, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
    harness_dma(harness, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
    /* A copy goes back to the page, which had other contents meanwhile. */
    if (rules_bounces(harness->policy, cell->device))
        harness_restore(page);
    harness_set_up_device(harness, cell->device);
    if (timeout_ms && timeout_ms <= SHORT_MS) {
        withheld_completion_stand_still(harness, cell, false);
        withheld_completion_stand_still(harness, cell, true);
    }
}

const struct attack attack_withheld_completion = {
    .name = "withheld-completion",
    .mechanism = "the device withholds completion to keep its window open",
    .stopped_by = "a timeout, forced unmap and reset",
    .source = "Thunderclap, NDSS'19",
    .expect = withheld_completion_expect,
    .run = withheld_completion_run,
};
