/* Expectations of the attacks on the life of a mapping, on messages and on the driver. */
#include <stdio.h>
#include <string.h>

#include "devices/hostile/blk.h"
#include "vmm/dma/expect.h"

#define BOTH (RULES_READ | RULES_WRITE)

/* One target: a page that is the device's only if `weak`, or if nothing translates. */
static bool one_page(const struct policy *policy, unsigned device, unsigned n, const char *target,
                     bool weak, const char *why_weak, const char *why_not, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);

    if (n)
        return false;
    expect_effect(plan, target, untranslated || weak ? BOTH : 0, ATTACK_PAGE_BYTES,
                  untranslated ? rules_why_untranslated(policy, device)
                  : weak       ? why_weak
                               : why_not);
    return true;
}

bool expect_alias(const struct policy *policy, unsigned device, unsigned n,
                  struct attack_plan *plan)
{
    return one_page(policy, device, n, "alias",
                    rules_device(policy, device)->flags & ABI_DEVICE_ALIASES_STAY,
                    "aliases stay: unmapping one address leaves the others",
                    "all addresses of the page are revoked together", plan);
}

bool expect_withheld_completion(const struct policy *policy, unsigned device, unsigned n,
                                struct attack_plan *plan)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    bool copies = rules_bounces(policy, device);

    if (d->kind != ABI_DEVICE_PROBE) {
        expect_none(plan, "buffer", "its driver has no transfer that could be withheld");
        return n == 0;
    }
    return one_page(policy, device, n, "buffer", !d->timeout_ms && !copies,
                    "no timeout: the driver waits, and the buffer stays mapped",
                    d->timeout_ms ? "timeout: the driver unmaps and resets the device"
                                  : "the device has a copy; the page itself is not mapped",
                    plan);
}

bool expect_deferred_invalidation(const struct policy *policy, unsigned device, unsigned n,
                                  struct attack_plan *plan)
{
    bool lazy = rules_device(policy, device)->mode == ABI_DMA_LAZY;

    return one_page(policy, device, n, "reused page", lazy && !rules_bounces(policy, device),
                    "lazy: unmap takes effect at the next flush",
                    lazy ? "the device had a copy; the page itself was not mapped"
                         : "strict: unmap has taken effect when it returns",
                    plan);
}

bool expect_stale_pointer(const struct policy *policy, unsigned device, unsigned n,
                          struct attack_plan *plan)
{
    return one_page(policy, device, n, "replay", false, "",
                    "a translation that was kept is void once its mapping is gone", plan);
}

bool expect_unpinned(const struct policy *policy, unsigned device, unsigned n,
                     struct attack_plan *plan)
{
    bool freed = rules_device(policy, device)->flags & ABI_DEVICE_NO_PIN;

    return one_page(policy, device, n, "freed page", freed && !rules_bounces(policy, device),
                    "no pin: a page is given away while it is mapped",
                    freed ? "the device had a copy; the page itself was not mapped"
                          : "a mapped page is pinned until UNMAP",
                    plan);
}

bool expect_pre_init(const struct policy *policy, unsigned device, unsigned n,
                     struct attack_plan *plan)
{
    bool open = !policy->iommu || policy->iommu_config.boot_bypass;

    if (n == 0) {
        expect_effect(plan, "boot", open ? BOTH : 0, ATTACK_PAGE_BYTES,
                      !policy->iommu ? "off: there is no IOMMU in its way"
                      : open         ? "boot bypass: unattached endpoints are not translated"
                                     : "deny at boot: it is attached to no domain");
        return true;
    }
    if (n == 1)
        return one_page(policy, device, 0, "reset", false, "",
                        "a reset takes all mappings of the device away", plan);
    if (n > 2)
        return false;
    /* The driver of the IOMMU ended the bypass of unattached devices when it came up. */
    expect_effect(plan, "detach", policy->iommu ? 0 : BOTH, ATTACK_PAGE_BYTES,
                  policy->iommu ? "a device that is attached to no domain reaches nothing"
                                : "off: there is no IOMMU in its way");
    return true;
}

unsigned attack_forbidden_vector(const struct policy *policy, unsigned device)
{
    for (unsigned vector = 0xe8; vector > 0x80; vector--) {
        if (!(policy->device[device].vectors[vector / 64] >> (vector % 64) & 1))
            return vector;
    }
    return 0;
}

bool expect_msi_spoof(const struct policy *policy, unsigned device, unsigned n,
                      struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool any = rules_lacks(policy, IOMMU_WITHOUT_MSI);
    char target[ABI_POLICY_NAME_BYTES];

    if (n)
        return false;
    snprintf(target, sizeof(target), "vector 0x%x", attack_forbidden_vector(policy, device));
    expect_effect(plan, target, 0, 0,
                  untranslated ? rules_why_untranslated(policy, device)
                  : any        ? "lacks msi: any vector from any endpoint"
                               : "the vector is not among those it may signal");
    plan->effect.succeeds = untranslated || any;
    return true;
}

int attack_peer(const struct policy *policy, unsigned device)
{
    int peer = -1;

    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (other == device)
            continue;
        if (rules_device(policy, other)->kind == ABI_DEVICE_PROBE)
            return (int)other;
        peer = (int)other;
    }
    return peer;
}

bool expect_peer(const struct policy *policy, unsigned device, unsigned n, struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool mapped = rules_lacks(policy, IOMMU_WITHOUT_PEER);
    int peer = attack_peer(policy, device);
    uint32_t rights = untranslated || mapped ? BOTH : 0;

    if (n)
        return false;
    if (peer < 0) {
        expect_none(plan, "registers", "there is no other device");
        return true;
    }
    /* Of a disk's registers none is worth writing. */
    if (rules_device(policy, (unsigned)peer)->kind != ABI_DEVICE_PROBE)
        rights &= RULES_READ;
    expect_effect(plan, rules_device(policy, (unsigned)peer)->name, rights, sizeof(uint32_t),
                  untranslated ? rules_why_untranslated(policy, device)
                  : mapped     ? "lacks peer: device registers may be mapped"
                               : "addresses translate to RAM only");
    return true;
}

static bool naive(const struct policy *policy, unsigned device)
{
    return rules_device(policy, device)->flags & ABI_DEVICE_NAIVE_QUEUE;
}

bool expect_descriptor_loop(const struct policy *policy, unsigned device, unsigned n,
                            struct attack_plan *plan)
{
    static const char *const targets[] = { "cyclic next", "nested indirect", "index" };

    if (n >= sizeof(targets) / sizeof(targets[0]))
        return false;
    expect_effect(plan, targets[n], 0, 0,
                  naive(policy, device) ? "naive queue: descriptors are believed"
                                        : "chains are bounded by the queue's size and validated");
    plan->effect.succeeds = naive(policy, device);
    return true;
}

bool expect_descriptor_toctou(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    if (n)
        return false;
    expect_effect(plan, "descriptor", naive(policy, device) ? RULES_WRITE : 0, ATTACK_TOCTOU_BYTES,
                  naive(policy, device) ? "naive queue: a descriptor is read twice"
                                        : "a descriptor is copied once and the copy validated");
    return true;
}

const struct attack_lie attack_lies[] = {
    { "id never issued", HOSTILE_BLK_ID_NEVER_ISSUED },
    { "id out of range", HOSTILE_BLK_ID_OUT_OF_RANGE },
    { "id twice", HOSTILE_BLK_ID_TWICE },
    { "length", HOSTILE_BLK_LENGTH },
    { "index jump", HOSTILE_BLK_INDEX_JUMP },
};
const unsigned attack_lies_count = sizeof(attack_lies) / sizeof(attack_lies[0]);

bool expect_used_ring(const struct policy *policy, unsigned device, unsigned n,
                      struct attack_plan *plan)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    bool trusting = d->flags & ABI_DEVICE_TRUSTING;

    if (d->kind != ABI_DEVICE_BLK) {
        expect_none(plan, "used ring", "the device has none");
        return n == 0;
    }
    if (n >= attack_lies_count)
        return false;
    expect_effect(plan, attack_lies[n].name, 0, 0,
                  trusting ? "trusting: the driver believes what comes back"
                           : "the driver keeps its own record of what is under way");
    plan->effect.succeeds = trusting;
    return true;
}

bool expect_bounce_metadata(const struct policy *policy, unsigned device, unsigned n,
                            struct attack_plan *plan)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    bool inside = d->flags & ABI_DEVICE_BOUNCE_META;

    if (n)
        return false;
    if (d->buffers != ABI_DMA_BOUNCE) {
        expect_none(plan, "pool", "it has no bounce pool");
        return true;
    }
    expect_effect(plan, "pool", 0, 0,
                  inside ? "bounce metadata: the pool's book-keeping lies inside it"
                         : "the pool's book-keeping is out of the device's reach");
    plan->effect.succeeds = inside;
    return true;
}

bool expect_arithmetic(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    static const char *const targets[] = { "map to 2^64-1", "map beyond RAM", "unmap a part",
                                           "request wraps" };
    const unsigned request = sizeof(targets) / sizeof(targets[0]) - 1;
    bool untranslated = rules_untranslated(policy, device);
    bool wraps = !policy->iommu || (untranslated && rules_lacks(policy, IOMMU_WITHOUT_WRAP));

    if (n > request)
        return false;
    if (n < request && untranslated)
        expect_none(plan, targets[n], rules_why_untranslated(policy, device));
    else
        expect_effect(plan, targets[n], n == request && wraps ? RULES_READ : 0, 8,
                      n == 2           ? "an unmap that would split a mapping removes nothing"
                      : n < 2          ? "ends are computed with checks"
                      : !policy->iommu ? "off: there is no IOMMU in its way"
                      : wraps          ? "lacks wrap: untranslated addresses wrap around"
                                       : "ends are computed with checks");
    return true;
}

int attack_starved(const struct policy *policy, unsigned device)
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

bool expect_exhaustion(const struct policy *policy, unsigned device, unsigned n,
                       struct attack_plan *plan)
{
    int starved = rules_untranslated(policy, device) ? -1 : attack_starved(policy, device);
    bool shared = starved >= 0 && rules_same_domain(policy, device, (unsigned)starved);
    bool unlimited = rules_lacks(policy, IOMMU_WITHOUT_QUOTA);

    if (n == 1) {
        if (policy->iommu && !rules_untranslated(policy, device))
            expect_effect(plan, "fault flood", 0, 0, "records are bounded and drops counted");
        else
            expect_none(plan, "fault flood", rules_why_untranslated(policy, device));
        return true;
    }
    if (n > 1)
        return false;
    if (starved < 0) {
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
