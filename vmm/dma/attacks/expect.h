/* What several attacks expect of a policy: fills their plans in. */
#ifndef STRATA_DMA_ATTACKS_EXPECT_H
#define STRATA_DMA_ATTACKS_EXPECT_H

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/rules.h"

/* `rights` is what succeeds, on `bytes`. */
void expect_effect(struct attack_plan *plan, const char *target, uint32_t rights, uint64_t bytes,
                   const char *because);

/* The attack makes no sense there. */
void expect_none(struct attack_plan *plan, const char *target, const char *because);

/* A page that is the device's only if the policy is weak, or if nothing translates. */
struct expect_page {
    const char *target;
    bool weak;
    const char *why_weak, *why_not;
};

/* The page is the only target: false for all but n = 0. */
bool expect_page(const struct policy *policy, unsigned device, unsigned n,
                 const struct expect_page *page, struct attack_plan *plan);

/* One of the policy's regions, as far as it is not the device's own. */
void expect_region(const struct policy *policy, unsigned device, unsigned region, uint32_t wanted,
                   struct attack_plan *plan);

/* Neighbours of a buffer on its page (buffer.h). */
void expect_neighbour(const struct policy *policy, unsigned device, const char *target,
                      uint64_t bytes, struct attack_plan *plan);

#endif
