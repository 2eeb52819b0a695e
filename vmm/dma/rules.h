/*
 * What a policy promises, from the policy alone: nothing here has seen a machine. The
 * expectations of the attacks are made of these.
 */
#ifndef STRATA_DMA_RULES_H
#define STRATA_DMA_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/dma/policy/policy.h"

/* Of a region, at most so much is filled with canaries, mapped and attacked. */
#define RULES_REGION_PAGES 4
#define RULES_READ         1u
#define RULES_WRITE        2u
#define RULES_BOTH         (RULES_READ | RULES_WRITE)

static inline const struct abi_policy_device *rules_device(const struct policy *policy,
                                                           unsigned device)
{
    return &policy->guest.device[device];
}

/* The platform lacks any of these protections (IOMMU_CHECK_*). */
bool rules_disabled(const struct policy *policy, uint32_t checks);

/* Its addresses are guest-physical: no IOMMU, or mode off or identity. */
bool rules_untranslated(const struct policy *policy, unsigned device);

/* Both are translated, by the same page table. */
bool rules_same_domain(const struct policy *policy, unsigned a, unsigned b);

/* How many page tables there are: domains that translate. */
unsigned rules_domains(const struct policy *policy);

/* Whether even whole pages are not mapped themselves, but copied to a pool and back. */
bool rules_bounces(const struct policy *policy, unsigned device);

/* Whether a buffer that is not whole pages is copied to pages that hold nothing else. */
bool rules_copies(const struct policy *policy, unsigned device);

/* Whether the driver of the device's queues believes descriptors. */
bool rules_naive_queue(const struct policy *policy, unsigned device);

/* Bytes of a region that are attacked. */
uint64_t rules_region_bytes(const struct policy *policy, unsigned region);

/* What the device's own `memory-region` gives it of the region. */
uint32_t rules_own(const struct policy *policy, unsigned device, unsigned region);

/* Whether others may do with the region what this device may not. */
bool rules_is_of_others(const struct policy *policy, unsigned device, unsigned region);

/*
 * What the device can do to the region's contents in fact, with everything set up: by
 * its own mappings, by those of devices that share its page table, by a pool or an identity window.
 * *because names the rule (never NULL).
 */
uint32_t rules_reach(const struct policy *policy, unsigned device, unsigned region,
                     const char **because);

/* Why the device is not confined: "there is no IOMMU", ... */
const char *rules_why_untranslated(const struct policy *policy, unsigned device);

#endif
