/* Expectations of the attacks that reach for memory of others while all is set up. */
#include <stdio.h>
#include <string.h>

#include "vmm/dma/expect.h"

#define BOTH (RULES_READ | RULES_WRITE)

void expect_effect(struct attack_plan *plan, const char *target, uint32_t rights, uint64_t bytes,
                   const char *because)
{
    snprintf(plan->target, sizeof(plan->target), "%s", target);
    snprintf(plan->because, sizeof(plan->because), "%s", because);
    plan->effect = (struct lab_effect){
        .applies = true,
        .succeeds = rights != 0,
        .read_bytes = rights & RULES_READ ? bytes : 0,
        .write_bytes = rights & RULES_WRITE ? bytes : 0,
    };
}

void expect_none(struct attack_plan *plan, const char *target, const char *because)
{
    expect_effect(plan, target, 0, 0, because);
    plan->effect.applies = false;
}

/* One of the policy's regions, as far as it is not the device's own. */
static void foreign_region(const struct policy *policy, unsigned device, unsigned region,
                           uint32_t wanted, struct attack_plan *plan)
{
    const char *because;
    uint32_t reach = rules_reach(policy, device, region, &because) & wanted;

    expect_effect(plan, policy->guest.region[region].name, reach,
                  rules_region_bytes(policy, region), because);
}

bool expect_probe_scan(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    unsigned nregions = policy->guest.nregions;
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t all = rules_untranslated(policy, device) ? BOTH : 0;
    const char *because = all ? rules_why_untranslated(policy, device)
                              : "deny by default: nothing maps it";

    if (n >= nregions + 2)
        return false;
    if (n == nregions + ATTACK_TARGET_KERNEL)
        expect_effect(plan, "kernel", all, ATTACK_PAGE_BYTES, because);
    else if (n == nregions + ATTACK_TARGET_SECRET)
        expect_effect(plan, "secret", all, ATTACK_PAGE_BYTES, because);
    else if (region->kind == ABI_REGION_CARVE)
        expect_none(plan, region->name, "there is no memory that it names");
    else if (rules_own(policy, device, n))
        expect_none(plan, region->name, "the device's own");
    else
        foreign_region(policy, device, n, BOTH, plan);
    return true;
}

/* Whether others may do with the region what this device may not. */
static bool is_of_others(const struct policy *policy, unsigned device, unsigned region)
{
    uint32_t rights = 0;

    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (other != device)
            rights |= rules_own(policy, other, region);
    }
    return (rights & ~rules_own(policy, device, region)) != 0;
}

bool expect_shared_map(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];

    if (n >= policy->guest.nregions)
        return false;
    if (region->kind != ABI_REGION_BUFFER)
        expect_none(plan, region->name, "no driver's buffer");
    else if (!is_of_others(policy, device, n))
        expect_none(plan, region->name, "no other device may do more with it");
    else
        foreign_region(policy, device, n, BOTH & ~rules_own(policy, device, n), plan);
    return true;
}

bool expect_requester_spoof(const struct policy *policy, unsigned device, unsigned n,
                            struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t wanted, reach;
    const char *because;

    if (n >= policy->guest.nregions)
        return false;
    wanted = BOTH & ~rules_own(policy, device, n);
    if (region->kind != ABI_REGION_BUFFER || !is_of_others(policy, device, n)) {
        expect_none(plan, region->name, "no other device may do more with it");
        return true;
    }
    reach = rules_reach(policy, device, n, &because) & wanted;
    if (!rules_untranslated(policy, device) && rules_lacks(policy, IOMMU_WITHOUT_REQUESTER)) {
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

bool expect_permission(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t own, other_way, reach = 0;
    const char *because = "the mapping allows one direction only";

    if (n >= policy->guest.nregions)
        return false;
    own = rules_own(policy, device, n);
    other_way = BOTH & ~own;
    if (region->kind != ABI_REGION_BUFFER || !own || !other_way) {
        expect_none(plan, region->name, own ? "both directions are the device's" : "not mapped");
        return true;
    }
    if (rules_untranslated(policy, device)) {
        reach = other_way;
        because = rules_why_untranslated(policy, device);
    } else if (rules_bounces(policy, device)) {
        reach = other_way & RULES_READ;
        because = reach ? "pool: contents are copied in, also where the device only writes"
                        : "pool: what the device only reads is not copied back";
    } else if (rules_lacks(policy, IOMMU_WITHOUT_PERMISSION)) {
        reach = other_way;
        because = "lacks permission: READ and WRITE are not looked at";
    }
    expect_effect(plan, region->name, reach, rules_region_bytes(policy, n), because);
    return true;
}

bool expect_identity_hole(const struct policy *policy, unsigned device, unsigned n,
                          struct attack_plan *plan)
{
    const struct abi_policy *guest = &policy->guest;
    bool untranslated = rules_untranslated(policy, device);
    unsigned seen = 0;

    for (unsigned region = 0; region < guest->nregions; region++) {
        if (guest->region[region].kind != ABI_REGION_HOLE || seen++ != n)
            continue;
        foreign_region(policy, device, region, BOTH, plan);
        if (rules_own(policy, device, region) && !untranslated)
            snprintf(plan->because, sizeof(plan->because),
                     "hole: `iommu-addresses` keeps it mapped for good");
        return true;
    }
    if (seen || n)
        return false;
    expect_effect(plan, "identity", untranslated ? BOTH : 0, ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                               : "the policy has no identity window");
    return true;
}

bool expect_ats(const struct policy *policy, unsigned device, unsigned n, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool believed = rules_lacks(policy, IOMMU_WITHOUT_TRANSLATED);

    if (n)
        return false;
    expect_effect(plan, "secret", untranslated || believed ? BOTH : 0, ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                  : believed   ? "lacks translated: a request that says so is not translated"
                               : "translated requests are refused");
    return true;
}

/* Neighbours of a buffer on its page. */
static void neighbour(const struct policy *policy, unsigned device, const char *target,
                      uint64_t bytes, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device), copies = rules_copies(policy, device);

    expect_effect(plan, target, untranslated || !copies ? BOTH : 0, bytes,
                  untranslated ? rules_why_untranslated(policy, device)
                  : copies     ? "the buffer's page holds a copy of it and nothing else"
                               : "in place: a mapping opens the whole page");
}

bool expect_kernel_pointer(const struct policy *policy, unsigned device, unsigned n,
                           struct attack_plan *plan)
{
    if (n)
        return false;
    neighbour(policy, device, "callback", ATTACK_POINTER_BYTES, plan);
    return true;
}

bool expect_co_location(const struct policy *policy, unsigned device, unsigned n,
                        struct attack_plan *plan)
{
    if (n)
        return false;
    neighbour(policy, device, "neighbour", ATTACK_NEIGHBOUR_BYTES, plan);
    return true;
}
