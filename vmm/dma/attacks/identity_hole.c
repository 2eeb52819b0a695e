/* A window that is mapped for good, at its own addresses. */
#include <stdio.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/region.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

static bool identity_hole_expect(const struct policy *policy, unsigned device, unsigned n,
                                 struct attack_plan *plan)
{
    const struct abi_policy *guest = &policy->guest;
    bool untranslated = rules_untranslated(policy, device);
    unsigned seen = 0;

    for (unsigned region = 0; region < guest->nregions; region++) {
        if (guest->region[region].kind != ABI_REGION_IDENTITY || seen++ != n)
            continue;
        expect_region(policy, device, region, RULES_BOTH, plan);
        if (rules_own(policy, device, region) && !untranslated)
            snprintf(plan->because, sizeof(plan->because),
                     "hole: `iommu-addresses` keeps it mapped for good");
        return true;
    }
    if (seen || n)
        return false;
    expect_effect(plan, "identity", untranslated ? RULES_BOTH : 0, ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                               : "the policy has no identity window");
    return true;
}

static void identity_hole_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct harness_request request = { .device = cell->device,
                                             .expect = HARNESS_EXPECT_DENY };
    struct harness_victim victim;
    unsigned seen_windows = 0;

    for (unsigned region = 0; region < harness->policy->guest.nregions; region++) {
        if (harness->policy->guest.region[region].kind == ABI_REGION_IDENTITY &&
            seen_windows++ == n) {
            region_attack(harness, cell, region, RULES_BOTH, false);
            return;
        }
    }
    harness_victim_page(&victim, harness_page(harness, HARNESS_PAGE_SECRET));
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
}

const struct attack attack_identity_hole = {
    .name = "identity-hole",
    .mechanism = "a permanent identity window",
    .stopped_by = "an explicit reserved list; fail closed",
    .source = "VT-d, 8.4 (RMRR)",
    .expect = identity_hole_expect,
    .run = identity_hole_run,
};
