/* Several devices by one page table: each reaches what is the others'. */
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/region.h"
#include "vmm/dma/engine.h"

static bool shared_map_expect(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];

    if (n >= policy->guest.nregions)
        return false;
    if (region->kind != ABI_REGION_BUFFER)
        expect_none(plan, region->name, "no driver's buffer");
    else if (!rules_is_of_others(policy, device, n))
        expect_none(plan, region->name, "no other device may do more with it");
    else
        expect_region(policy, device, n, RULES_BOTH & ~rules_own(policy, device, n), plan);
    return true;
}

static void shared_map_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    region_attack(harness, cell, n, region_not_its_own(harness, cell->device, n), false);
}

const struct attack attack_shared_map = {
    .name = "shared-map",
    .mechanism = "one page table for several devices",
    .stopped_by = "a domain for each endpoint",
    .source = "Thunderclap, NDSS'19",
    .expect = shared_map_expect,
    .run = shared_map_run,
};
