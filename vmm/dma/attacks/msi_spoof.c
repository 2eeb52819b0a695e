/* A DMA write to 0xfee00000 injects an interrupt. */
#include <linux/virtio_iommu.h>
#include <stdio.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define STRAY_MS    2
#define STRAY_TRIES 500

/* A vector that the policy does not let the device signal, and that the guest does not use. */
static unsigned msi_spoof_forbidden_vector(const struct policy *policy, unsigned device)
{
    for (unsigned vector = 0xe8; vector > 0x80; vector--) {
        if (!(policy->device[device].vectors[vector / 64] >> (vector % 64) & 1))
            return vector;
    }
    return 0;
}

static bool msi_spoof_expect(const struct policy *policy, unsigned device, unsigned n,
                             struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool any = rules_disabled(policy, IOMMU_CHECK_MSI);
    char target[ABI_POLICY_NAME_BYTES];

    if (n)
        return false;
    snprintf(target, sizeof(target), "vector 0x%x", msi_spoof_forbidden_vector(policy, device));
    expect_effect(plan, target, 0, 0,
                  untranslated ? rules_why_untranslated(policy, device)
                  : any        ? "lacks msi: any vector from any endpoint"
                               : "the vector is not among those it may signal");
    plan->effect.succeeds = untranslated || any;
    return true;
}

static int msi_spoof_send(struct harness *harness, unsigned device, unsigned vector,
                          struct dma_outcome *outcome)
{
    uint32_t data = vector;
    const struct dma_request request = {
        .iova = IOMMU_MSI_FIRST, .len = sizeof(data), .direction = DMA_WRITE, .data = &data
    };

    dma_perform(harness->dma[device], &request, outcome);
    return outcome->error;
}

/*
 * Interrupts by stray vectors that came to the guest since it had counted so many; the last
 * one. One that is expected has its time to arrive.
 */
static uint64_t msi_spoof_strays(struct harness *harness, uint64_t before, bool expected,
                                 uint64_t *vector)
{
    uint64_t came = 0;

    for (unsigned i = 0; i < (expected ? STRAY_TRIES : 1) && !came; i++) {
        struct abi_harness_command nothing = { .op = ABI_HARNESS_WAIT, .operation = STRAY_MS };

        if (harness_call(harness, &nothing, 1) || program_read_block(&harness->guest.program))
            return 0;
        came = harness->guest.program.view.kernel.stray_interrupts - before;
    }
    *vector = harness->guest.program.view.kernel.stray_vector;
    return came;
}

static unsigned msi_spoof_allowed_vector(const struct policy *policy, unsigned device)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        if (policy->device[device].vectors[vector / 64] >> (vector % 64) & 1)
            return vector;
    }
    return 0;
}

static void msi_spoof_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    unsigned vector = msi_spoof_forbidden_vector(harness->policy, cell->device);
    unsigned allowed = msi_spoof_allowed_vector(harness->policy, cell->device);
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;
    uint64_t came, last = 0, before, counted;

    (void)n;
    if (program_read_block(&harness->guest.program))
        return;
    before = harness_faults(harness, NULL);
    counted = harness->guest.program.view.kernel.stray_interrupts;
    msi_spoof_send(harness, cell->device, vector, &outcome);
    if (!cell->expected.succeeds) {
        harness_check(cell, outcome.error < 0, "the device must see an error, observed %d",
                      -outcome.error);
        harness_check(cell,
                      harness_faults(harness, &fault) == before + 1 &&
                          fault.iova == IOMMU_MSI_FIRST && fault.access == IOMMU_WRITE &&
                          fault.endpoint == rules_device(harness->policy, cell->device)->endpoint,
                      "fault record: expected 1 write at 0x%llx, observed %llu, the last at 0x%llx",
                      IOMMU_MSI_FIRST, (unsigned long long)(harness_faults(harness, NULL) - before),
                      (unsigned long long)fault.iova);
    }
    /* Nor can the window be covered with memory, for the writes to vanish in. */
    if (!rules_untranslated(harness->policy, cell->device)) {
        struct abi_dma map = { .iova = IOMMU_MSI_FIRST,
                               .bytes = ATTACK_PAGE_BYTES,
                               .gpa = harness_page(harness, HARNESS_PAGE_SCRATCH)->gpa,
                               .rights = RULES_BOTH };
        int64_t result;

        harness_settle(harness);
        result = harness_dma(harness, cell->device, ABI_DMA_RAW_MAP, &map);
        harness_check(cell, !result && map.value != VIRTIO_IOMMU_S_OK,
                      "map the interrupt window: expected a refusal, observed %lld, status %llu",
                      (long long)result, (unsigned long long)map.value);
    }
    came = msi_spoof_strays(harness, counted, cell->expected.succeeds, &last);
    cell->observed.succeeds = came > 0 && last == vector;
    /* What it may signal, it can: the window is open for that. */
    if (allowed >= 0x50 && allowed < 0xf0) {
        harness_settle(harness);
        program_read_block(&harness->guest.program);
        counted = harness->guest.program.view.kernel.stray_interrupts;
        msi_spoof_send(harness, cell->device, allowed, &outcome);
        came = msi_spoof_strays(harness, counted, true, &last);
        harness_check(
            cell, !outcome.error && came == 1 && last == allowed,
            "its own vector 0x%x: expected 1 interrupt, observed error %d, %llu, the last by "
            "vector 0x%llx",
            allowed, -outcome.error, (unsigned long long)came, (unsigned long long)last);
    }
}

const struct attack attack_msi_spoof = {
    .name = "msi-spoof",
    .mechanism = "a DMA write to 0xfee00000 injects an interrupt",
    .stopped_by = "trap the window; vectors allowed for each endpoint",
    .source = "Wojtczuk and Rutkowska, 2011",
    .expect = msi_spoof_expect,
    .run = msi_spoof_run,
};
