/* A DMA write to 0xfee00000 injects an interrupt. */
#include <linux/virtio_iommu.h>
#include <stdio.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define STRAY_MS    2
#define STRAY_TRIES 500

/* A vector that the policy does not let the device signal, and that nobody uses. */
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
    bool any = rules_lacks(policy, IOMMU_WITHOUT_MSI);
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

static int msi_spoof_send(struct lab *lab, unsigned device, unsigned vector,
                          struct dma_outcome *outcome)
{
    uint32_t data = vector;
    const struct dma_request request = {
        .iova = IOMMU_MSI_FIRST, .len = sizeof(data), .direction = DMA_WRITE, .data = &data
    };

    dma_perform(lab->dma[device], &request, outcome);
    return outcome->error;
}

/*
 * Interrupts by stray vectors that came to the guest since it had counted so many; the last
 * one. One that is expected has its time to arrive.
 */
static uint64_t msi_spoof_strays(struct lab *lab, uint64_t before, bool expected, uint64_t *vector)
{
    uint64_t came = 0;

    for (unsigned i = 0; i < (expected ? STRAY_TRIES : 1) && !came; i++) {
        struct abi_lab_command nothing = { .op = ABI_LAB_WAIT, .operation = STRAY_MS };

        if (lab_call(lab, &nothing, 1) || harness_guest_read_block(&lab->guest))
            return 0;
        came = lab->guest.view.kernel.stray_interrupts - before;
    }
    *vector = lab->guest.view.kernel.stray_vector;
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

static void msi_spoof_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    unsigned vector = msi_spoof_forbidden_vector(lab->policy, cell->device);
    unsigned allowed = msi_spoof_allowed_vector(lab->policy, cell->device);
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;
    uint64_t came, last = 0, before, counted;

    (void)n;
    if (harness_guest_read_block(&lab->guest))
        return;
    before = lab_faults(lab, NULL);
    counted = lab->guest.view.kernel.stray_interrupts;
    msi_spoof_send(lab, cell->device, vector, &outcome);
    if (!cell->expected.succeeds) {
        lab_check(cell, outcome.error < 0, "the device must see an error, observed %d",
                  -outcome.error);
        lab_check(cell,
                  lab_faults(lab, &fault) == before + 1 && fault.iova == IOMMU_MSI_FIRST &&
                      fault.access == IOMMU_WRITE &&
                      fault.endpoint == rules_device(lab->policy, cell->device)->endpoint,
                  "fault record: expected 1 write at 0x%llx, observed %llu, the last at 0x%llx",
                  IOMMU_MSI_FIRST, (unsigned long long)(lab_faults(lab, NULL) - before),
                  (unsigned long long)fault.iova);
    }
    /* Nor can the window be covered with memory, for the writes to vanish in. */
    if (!rules_untranslated(lab->policy, cell->device)) {
        struct abi_dma map = { .iova = IOMMU_MSI_FIRST,
                               .bytes = ATTACK_PAGE_BYTES,
                               .gpa = lab_page(lab, LAB_PAGE_SCRATCH)->gpa,
                               .rights = RULES_BOTH };
        int64_t result;

        lab_settle(lab);
        result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
        lab_check(cell, !result && map.value != VIRTIO_IOMMU_S_OK,
                  "map the interrupt window: expected a refusal, observed %lld, status %llu",
                  (long long)result, (unsigned long long)map.value);
    }
    came = msi_spoof_strays(lab, counted, cell->expected.succeeds, &last);
    cell->observed.succeeds = came > 0 && last == vector;
    /* What it may signal, it can: the window is open for that. */
    if (allowed >= 0x50 && allowed < 0xf0) {
        lab_settle(lab);
        harness_guest_read_block(&lab->guest);
        counted = lab->guest.view.kernel.stray_interrupts;
        msi_spoof_send(lab, cell->device, allowed, &outcome);
        came = msi_spoof_strays(lab, counted, true, &last);
        lab_check(cell, !outcome.error && came == 1 && last == allowed,
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
