#include "vmm/dma/rules.h"

#include "vmm/machine/memory.h"

bool rules_disabled(const struct policy *policy, uint32_t checks)
{
    return (policy->iommu_config.disabled_checks & checks) != 0;
}

bool rules_untranslated(const struct policy *policy, unsigned device)
{
    uint32_t mode = rules_device(policy, device)->mode;

    return !policy->iommu || mode == ABI_DMA_OFF || mode == ABI_DMA_IDENTITY;
}

const char *rules_why_untranslated(const struct policy *policy, unsigned device)
{
    if (!policy->iommu || rules_device(policy, device)->mode == ABI_DMA_OFF)
        return "off: there is no IOMMU in its way";
    return "identity: its domain does not translate";
}

bool rules_same_domain(const struct policy *policy, unsigned a, unsigned b)
{
    return !rules_untranslated(policy, a) && !rules_untranslated(policy, b) &&
           rules_device(policy, a)->domain == rules_device(policy, b)->domain;
}

unsigned rules_domains(const struct policy *policy)
{
    unsigned count = 0;

    for (unsigned device = 0; device < policy->guest.ndevices; device++) {
        unsigned before = 0;

        while (before < device && !rules_same_domain(policy, before, device))
            before++;
        count += before == device && !rules_untranslated(policy, device);
    }
    return count;
}

bool rules_bounces(const struct policy *policy, unsigned device)
{
    return rules_device(policy, device)->buffers == ABI_DMA_BOUNCE;
}

bool rules_copies(const struct policy *policy, unsigned device)
{
    return rules_device(policy, device)->buffers != ABI_DMA_IN_PLACE;
}

bool rules_naive_queue(const struct policy *policy, unsigned device)
{
    return rules_device(policy, device)->flags & ABI_DEVICE_NAIVE_QUEUE;
}

static bool rules_uses_pool(const struct policy *policy, unsigned device, unsigned region)
{
    const struct abi_policy_device *d = rules_device(policy, device);

    return d->buffers == ABI_DMA_BOUNCE && d->pool == region;
}

/* Whether the device's domain maps this pool. */
static bool rules_maps_pool(const struct policy *policy, unsigned device, unsigned region)
{
    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (rules_uses_pool(policy, other, region) &&
            (other == device || rules_same_domain(policy, device, other)))
            return true;
    }
    return false;
}

uint64_t rules_region_bytes(const struct policy *policy, unsigned region)
{
    uint64_t pages = (policy->guest.region[region].bytes + MEMORY_PAGE_BYTES - 1) /
                     MEMORY_PAGE_BYTES;

    return (pages < RULES_REGION_PAGES ? pages : RULES_REGION_PAGES) * MEMORY_PAGE_BYTES;
}

uint32_t rules_own(const struct policy *policy, unsigned device, unsigned region)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    const struct abi_policy_region *r = &policy->guest.region[region];
    uint32_t rights = 0;

    for (unsigned i = 0; i < d->nuses; i++) {
        if (d->use[i].region == region)
            rights |= d->use[i].rights;
    }
    if (r->kind == ABI_REGION_POOL && rules_uses_pool(policy, device, region))
        rights |= RULES_BOTH;
    if (r->kind == ABI_REGION_IDENTITY && (r->endpoints >> device & 1))
        rights |= RULES_BOTH;
    return rights;
}

bool rules_is_of_others(const struct policy *policy, unsigned device, unsigned region)
{
    uint32_t rights = 0;

    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (other != device)
            rights |= rules_own(policy, other, region);
    }
    return (rights & ~rules_own(policy, device, region)) != 0;
}

uint32_t rules_reach(const struct policy *policy, unsigned device, unsigned region,
                     const char **because)
{
    uint32_t reach = rules_own(policy, device, region);

    if (rules_untranslated(policy, device)) {
        *because = rules_why_untranslated(policy, device);
        return RULES_BOTH;
    }
    *because = "no mapping of its domain leads there";
    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        const struct abi_policy_device *o = rules_device(policy, other);
        uint32_t gives = rules_own(policy, other, region);

        if (!gives)
            continue;
        if (rules_bounces(policy, other) &&
            policy->guest.region[region].kind == ABI_REGION_BUFFER) {
            /* Copied in always, so that what the device leaves out comes back as it was. */
            gives |= RULES_READ;
            if (!rules_maps_pool(policy, device, o->pool))
                continue;
            if (gives & ~reach)
                *because = other == device ? "pool: a slot holds the buffer, whatever its direction"
                                           : "pool: another device's slots are in the same pool";
        } else if (rules_same_domain(policy, device, other)) {
            if (rules_disabled(policy, IOMMU_CHECK_PERMISSION))
                gives = RULES_BOTH;
            if (gives & ~reach)
                *because = other == device
                               ? "lacks permission: READ and WRITE are not looked at"
                               : "shared: another device's mappings are in the same page table";
        } else {
            continue;
        }
        reach |= gives;
    }
    return reach;
}
