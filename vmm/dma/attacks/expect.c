#include "vmm/dma/attacks/expect.h"

#include <stdio.h>

void expect_effect(struct attack_plan *plan, const char *target, uint32_t rights, uint64_t bytes,
                   const char *because)
{
    snprintf(plan->target, sizeof(plan->target), "%s", target);
    snprintf(plan->because, sizeof(plan->because), "%s", because);
    plan->effect = (struct harness_effect){
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

bool expect_page(const struct policy *policy, unsigned device, unsigned n,
                 const struct expect_page *page, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);

    if (n)
        return false;
    expect_effect(plan, page->target, untranslated || page->weak ? RULES_BOTH : 0,
                  ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                  : page->weak ? page->why_weak
                               : page->why_not);
    return true;
}

void expect_region(const struct policy *policy, unsigned device, unsigned region, uint32_t wanted,
                   struct attack_plan *plan)
{
    const char *because;
    uint32_t reach = rules_reach(policy, device, region, &because) & wanted;

    expect_effect(plan, policy->guest.region[region].name, reach,
                  rules_region_bytes(policy, region), because);
}

void expect_neighbour(const struct policy *policy, unsigned device, const char *target,
                      uint64_t bytes, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device), copies = rules_copies(policy, device);

    expect_effect(plan, target, untranslated || !copies ? RULES_BOTH : 0, bytes,
                  untranslated ? rules_why_untranslated(policy, device)
                  : copies     ? "the buffer's page holds a copy of it and nothing else"
                               : "in place: a mapping opens the whole page");
}
