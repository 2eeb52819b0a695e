/* DMA before the driver attaches the device, after its reset and after its detach. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/scratch.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

static bool pre_init_expect(const struct policy *policy, unsigned device, unsigned n,
                            struct attack_plan *plan)
{
    static const struct expect_page reset = {
        .target = "reset",
        .why_not = "a reset takes all mappings of the device away",
    };
    bool open = !policy->iommu || policy->iommu_config.boot_bypass;

    if (n == 0) {
        expect_effect(plan, "boot", open ? RULES_BOTH : 0, ATTACK_PAGE_BYTES,
                      !policy->iommu ? "off: there is no IOMMU in its way"
                      : open         ? "boot bypass: unattached endpoints are not translated"
                                     : "deny at boot: it is attached to no domain");
        return true;
    }
    if (n == 1)
        return expect_page(policy, device, 0, &reset, plan);
    if (n > 2)
        return false;
    /* The driver of the IOMMU ended the bypass of unattached devices when it came up. */
    expect_effect(plan, "detach", policy->iommu ? 0 : RULES_BOTH, ATTACK_PAGE_BYTES,
                  policy->iommu ? "a device that is attached to no domain reaches nothing"
                                : "off: there is no IOMMU in its way");
    return true;
}

static void pre_init_before_attach(struct harness *harness, unsigned device, uint64_t gpa,
                                   bool booted)
{
    struct matrix_cell *cell = &harness->boot[device];
    /* The IOMMU's driver ends the bypass before it does anything else. */
    bool open = !harness->policy->iommu || (harness->policy->iommu_config.boot_bypass && !booted);
    struct harness_effect earlier = cell->observed;
    const struct harness_request request = { .device = device,
                                             .expect = open ? HARNESS_EXPECT_ALLOW
                                                            : HARNESS_EXPECT_ANY };
    struct iommu_fault fault = { 0 };
    uint8_t expected_bytes[ATTACK_PAGE_BYTES];
    struct harness_victim victim = { .expected_bytes = expected_bytes,
                                     .len = ATTACK_PAGE_BYTES,
                                     .place = { memory_at(harness->memory, gpa,
                                                          ATTACK_PAGE_BYTES) },
                                     .nplaces = 1 };
    uint64_t before = harness_faults(harness, NULL);

    if (!victim.place[0])
        return;
    cell->device = device;
    memcpy(expected_bytes, victim.place[0], sizeof(expected_bytes));
    harness_victim_add(&victim, gpa, HARNESS_NOBODY);
    cell->observed = (struct harness_effect){ 0 };
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    if (cell->observed.read_bytes < earlier.read_bytes)
        cell->observed.read_bytes = earlier.read_bytes;
    if (cell->observed.write_bytes < earlier.write_bytes)
        cell->observed.write_bytes = earlier.write_bytes;
    harness_conclude(cell);
    if (open || !harness->iommu)
        return;
    harness_check(cell,
                  harness_faults(harness, &fault) - before == 2 &&
                      fault.code == IOMMU_FAULT_NO_DOMAIN &&
                      fault.endpoint == rules_device(harness->policy, device)->endpoint,
                  "before it is attached: expected 2 faults of endpoint %u for want of a domain, "
                  "observed %llu, the last of endpoint %u, code %d",
                  rules_device(harness->policy, device)->endpoint,
                  (unsigned long long)(harness_faults(harness, NULL) - before), fault.endpoint,
                  (int)fault.code);
}

/* A page that was mapped when the device was reset. */
static void pre_init_after_reset(struct harness *harness, struct matrix_cell *cell)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    struct harness_request request = { .device = cell->device,
                                       .expect = scratch_gate_after_unmap(harness, cell->device) };
    uint64_t iova = scratch_map(harness, cell, page);
    struct harness_victim victim;
    int64_t result;

    if (!iova)
        return;
    result = harness_dma(harness, cell->device, ABI_DMA_RESET, &(struct abi_dma){ .iova = 0 });
    harness_check(cell, result == 0, "reset: expected 0, observed %lld", (long long)result);
    harness_renew(harness, page);
    victim = scratch_victim(harness, cell->device, page, iova);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    harness_set_up_device(harness, cell->device);
}

/*
 * A page that its domain maps, by a mapping that the driver knows nothing of and cannot
 * take back before it detaches the device.
 */
static void pre_init_after_detach(struct harness *harness, struct matrix_cell *cell)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    bool untranslated = rules_untranslated(harness->policy, cell->device);
    struct harness_request request = { .device = cell->device,
                                       .iova = untranslated ? page->gpa : HARNESS_HIGH_IOVA,
                                       .len = ATTACK_PAGE_BYTES,
                                       .expect = HARNESS_EXPECT_ALLOW };
    struct abi_dma map = { .iova = HARNESS_HIGH_IOVA,
                           .bytes = ATTACK_PAGE_BYTES,
                           .gpa = page->gpa,
                           .rights = RULES_BOTH };
    struct harness_victim victim;
    int64_t result;

    harness_renew(harness, page);
    if (!untranslated) {
        result = harness_dma(harness, cell->device, ABI_DMA_RAW_MAP, &map);
        harness_check(cell, !result && !map.value,
                      "map a page: expected 0 and OK, observed %lld, %llu", (long long)result,
                      (unsigned long long)map.value);
    }
    harness_check(cell,
                  harness_read(harness, cell, &request, page->expected_bytes) == ATTACK_PAGE_BYTES,
                  "read while attached: expected the page, observed something else");
    result = harness_dma(harness, cell->device, ABI_DMA_DETACH, &map);
    harness_check(cell, result == 0, "detach: expected 0, observed %lld", (long long)result);
    victim = scratch_victim(harness, cell->device, page, request.iova);
    request.expect = harness->policy->iommu ? HARNESS_EXPECT_DENY : HARNESS_EXPECT_ALLOW;
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    /* In a domain that others keep alive, it is still there. */
    map.last = HARNESS_HIGH_IOVA + ATTACK_PAGE_BYTES - 1;
    if (!untranslated)
        harness_dma(harness, cell->device, ABI_DMA_RAW_UNMAP, &map);
    harness_set_up_device(harness, cell->device);
}

static void pre_init_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct matrix_cell *boot = &harness->boot[cell->device];

    if (n) {
        (n == 1 ? pre_init_after_reset : pre_init_after_detach)(harness, cell);
        return;
    }
    cell->observed.succeeds = boot->observed.succeeds;
    cell->observed.read_bytes = boot->observed.read_bytes;
    cell->observed.write_bytes = boot->observed.write_bytes;
    harness_merge(cell, boot);
}

const struct attack attack_pre_init = {
    .name = "pre-init",
    .mechanism = "DMA before the driver attaches, or after a reset",
    .stopped_by = "bypass off at boot; deny on reset",
    .source = "virtio 1.2, 5.13: bypass",
    .expect = pre_init_expect,
    .run = pre_init_run,
    .before_attach = pre_init_before_attach,
};
