/* The request bears the endpoint id of another device. */
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/region.h"
#include "vmm/dma/engine.h"

static bool requester_spoof_expect(const struct policy *policy, unsigned device, unsigned n,
                                   struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t wanted, reach;
    const char *because;

    if (n >= policy->guest.nregions)
        return false;
    wanted = RULES_BOTH & ~rules_own(policy, device, n);
    if (region->kind != ABI_REGION_BUFFER || !rules_is_of_others(policy, device, n)) {
        expect_none(plan, region->name, "no other device may do more with it");
        return true;
    }
    reach = rules_reach(policy, device, n, &because) & wanted;
    if (!rules_untranslated(policy, device) && rules_disabled(policy, IOMMU_CHECK_REQUESTER)) {
        for (unsigned other = 0; other < policy->guest.ndevices; other++) {
            const char *as_other;

            if (other != device && rules_own(policy, other, n) &&
                (rules_reach(policy, other, n, &as_other) & wanted & ~reach)) {
                reach |= rules_reach(policy, other, n, &as_other) & wanted;
                because = "lacks requester: the id in the request is believed";
            }
        }
    }
    expect_effect(plan, region->name, reach, rules_region_bytes(policy, n),
                  reach ? because : "the identity is bound by the VMM, not by the request");
    return true;
}

static void requester_spoof_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    region_attack(harness, cell, n, region_not_its_own(harness, cell->device, n), true);
}

const struct attack attack_requester_spoof = {
    .name = "requester-spoof",
    .mechanism = "a spoofed endpoint id in the request",
    .stopped_by = "identity bound by the VMM, not by the request",
    .source = "PCI Express, 6.12 (source validation)",
    .expect = requester_spoof_expect,
    .run = requester_spoof_run,
};
