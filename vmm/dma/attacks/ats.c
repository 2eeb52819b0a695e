/* The request says that its address is translated already. */
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

static bool ats_expect(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool believed = rules_disabled(policy, IOMMU_CHECK_TRANSLATED);

    if (n)
        return false;
    expect_effect(plan, "secret", untranslated || believed ? RULES_BOTH : 0, ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                  : believed   ? "lacks translated: a request that says so is not translated"
                               : "translated requests are refused");
    return true;
}

static void ats_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct harness_request request = { .device = cell->device,
                                             .translated = true,
                                             .expect = cell->expected.succeeds
                                                           ? HARNESS_EXPECT_ALLOW
                                                           : HARNESS_EXPECT_DENY };
    struct harness_victim victim;

    (void)n;
    harness_victim_page(&victim, harness_page(harness, HARNESS_PAGE_SECRET));
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
}

const struct attack attack_ats = {
    .name = "ats",
    .mechanism = "a \"translated\" bit in the request skips the IOMMU",
    .stopped_by = "refuse translated requests from untrusted devices",
    .source = "Thunderclap, NDSS'19",
    .expect = ats_expect,
    .run = ats_run,
};
