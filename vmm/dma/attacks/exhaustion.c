/* Mappings without end, a flood of faults. */
#include <errno.h>
#include <linux/virtio_iommu.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define FLOOD        4096             /* more than any policy keeps records */
#define MAPPINGS_MAX ((1u << 24) + 1) /* more than any quota of a policy */

/* A translated device whose mappings the device's could cost; -1: there is none. */
static int exhaustion_victim(const struct policy *policy, unsigned device)
{
    int other_domain = -1;

    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (other == device || rules_untranslated(policy, other))
            continue;
        /* Who shares the domain shares its quota, whatever the platform does. */
        if (rules_same_domain(policy, device, other))
            return (int)other;
        other_domain = (int)other;
    }
    return other_domain;
}

static bool exhaustion_expect(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    int exhausted = rules_untranslated(policy, device) ? -1 : exhaustion_victim(policy, device);
    bool shared = exhausted >= 0 && rules_same_domain(policy, device, (unsigned)exhausted);
    bool unlimited = rules_disabled(policy, IOMMU_CHECK_QUOTA);

    if (n == 1) {
        if (policy->iommu && !rules_untranslated(policy, device))
            expect_effect(plan, "fault flood", 0, 0, "records are bounded and drops counted");
        else
            expect_none(plan, "fault flood", rules_why_untranslated(policy, device));
        return true;
    }
    if (n > 1)
        return false;
    if (exhausted < 0) {
        expect_none(plan, "mappings", "there is no other translated device to starve");
        return true;
    }
    expect_effect(plan, "mappings", 0, 0,
                  shared      ? "shared: one domain, one quota"
                  : unlimited ? "lacks quota: one domain may take all mappings"
                              : "each domain has a quota");
    plan->effect.succeeds = shared || unlimited;
    return true;
}

/* Every mapping that the unit will give this device's domain. */
static uint64_t exhaustion_map_all(struct harness *harness, unsigned device, int *refusal)
{
    uint32_t domain = rules_device(harness->policy, device)->domain;
    uint64_t gpa = harness_page(harness, HARNESS_PAGE_SCRATCH)->gpa, count = 0;

    *refusal = 0;
    while (count < MAPPINGS_MAX && !*refusal) {
        uint64_t at = HARNESS_HIGH_IOVA + count * 2 * ATTACK_PAGE_BYTES;

        *refusal = iommu_map(harness->iommu, domain, at, at + ATTACK_PAGE_BYTES - 1, gpa,
                             IOMMU_READ);
        count += !*refusal;
    }
    return count;
}

static void exhaustion_starve(struct harness *harness, struct matrix_cell *cell)
{
    unsigned other = (unsigned)exhaustion_victim(harness->policy, cell->device);
    uint32_t domain = rules_device(harness->policy, cell->device)->domain;
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH2);
    struct abi_dma map = { .rights = RULES_BOTH,
                           .iova = 2 * HARNESS_HIGH_IOVA,
                           .last = 2 * HARNESS_HIGH_IOVA + ATTACK_PAGE_BYTES - 1,
                           .gpa = page->gpa };
    int refusal;
    uint64_t count = exhaustion_map_all(harness, cell->device, &refusal);
    int64_t result;

    harness_check(cell, refusal == -ENOMEM,
                  "mappings without end: expected a refusal, observed %d after %llu", -refusal,
                  (unsigned long long)count);
    result = harness_dma(harness, other, ABI_DMA_RAW_MAP, &map);
    cell->observed.succeeds = result != 0 || map.value != VIRTIO_IOMMU_S_OK;
    if (count)
        iommu_unmap(harness->iommu, domain, HARNESS_HIGH_IOVA,
                    HARNESS_HIGH_IOVA + count * 2 * ATTACK_PAGE_BYTES - 1);
    if (!cell->observed.succeeds)
        harness_dma(harness, other, ABI_DMA_RAW_UNMAP, &map);
}

static void exhaustion_flood(struct harness *harness, struct matrix_cell *cell)
{
    struct iommu_counts before, after;
    uint64_t seen = harness_faults(harness, NULL), word;
    struct dma_outcome outcome;

    iommu_count(harness->iommu, &before);
    for (unsigned i = 0; i < FLOOD; i++) {
        const struct dma_request request = { .iova = HARNESS_HIGH_IOVA + i * ATTACK_PAGE_BYTES,
                                             .len = sizeof(word),
                                             .direction = DMA_READ,
                                             .data = &word };

        dma_perform(harness->dma[cell->device], &request, &outcome);
    }
    iommu_count(harness->iommu, &after);
    harness_check(cell,
                  harness_faults(harness, NULL) - seen == FLOOD &&
                      after.faults - before.faults == FLOOD,
                  "a flood: expected %u faults counted, observed %llu", FLOOD,
                  (unsigned long long)(after.faults - before.faults));
    harness_check(cell, after.faults_dropped > before.faults_dropped,
                  "a flood: expected records to be dropped and counted, observed %llu drops",
                  (unsigned long long)(after.faults_dropped - before.faults_dropped));
    /* And the guest has to live with it. */
    harness_settle(harness);
    cell->observed.succeeds = harness->guest.program.failure[0] != 0;
}

static void exhaustion_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    if (n == 0)
        exhaustion_starve(harness, cell);
    else
        exhaustion_flood(harness, cell);
}

const struct attack attack_exhaustion = {
    .name = "exhaustion",
    .mechanism = "mappings without end, a flood of faults",
    .stopped_by = "quotas, bounded queues, a drop counter",
    .source = "virtio 1.2, 5.13: fault reporting",
    .expect = exhaustion_expect,
    .run = exhaustion_run,
};
