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

static void pre_init_before_attach(struct lab *lab, unsigned device, uint64_t gpa, bool booted)
{
    struct lab_cell *cell = &lab->boot[device];
    /* The IOMMU's driver ends the bypass before it does anything else. */
    bool open = !lab->policy->iommu || (lab->policy->iommu_config.boot_bypass && !booted);
    struct lab_effect earlier = cell->observed;
    const struct lab_request request = { .device = device, .gate = open ? LAB_OPEN : LAB_ANY };
    struct iommu_fault fault = { 0 };
    uint8_t truth[ATTACK_PAGE_BYTES];
    struct lab_victim victim = { .truth = truth,
                                 .len = ATTACK_PAGE_BYTES,
                                 .place = { memory_at(lab->memory, gpa, ATTACK_PAGE_BYTES) },
                                 .nplaces = 1 };
    uint64_t before = lab_faults(lab, NULL);

    if (!victim.place[0])
        return;
    cell->device = device;
    memcpy(truth, victim.place[0], sizeof(truth));
    lab_victim_add(&victim, gpa, LAB_NOBODY);
    cell->observed = (struct lab_effect){ 0 };
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    if (cell->observed.read_bytes < earlier.read_bytes)
        cell->observed.read_bytes = earlier.read_bytes;
    if (cell->observed.write_bytes < earlier.write_bytes)
        cell->observed.write_bytes = earlier.write_bytes;
    lab_conclude(cell);
    if (open || !lab->iommu)
        return;
    lab_check(cell,
              lab_faults(lab, &fault) - before == 2 && fault.reason == IOMMU_FAULT_DOMAIN &&
                  fault.endpoint == rules_device(lab->policy, device)->endpoint,
              "before it is attached: expected 2 faults of endpoint %u for want of a domain, "
              "observed %llu, the last of endpoint %u, reason %d",
              rules_device(lab->policy, device)->endpoint,
              (unsigned long long)(lab_faults(lab, NULL) - before), fault.endpoint,
              (int)fault.reason);
}

/* A page that was mapped when the device was reset. */
static void pre_init_after_reset(struct lab *lab, struct lab_cell *cell)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct lab_request request = { .device = cell->device,
                                   .gate = scratch_gate_after_unmap(lab, cell->device) };
    uint64_t iova = scratch_map(lab, cell, page);
    struct lab_victim victim;
    int64_t result;

    if (!iova)
        return;
    result = lab_dma(lab, cell->device, ABI_DMA_RESET, &(struct abi_dma){ .iova = 0 });
    lab_check(cell, result == 0, "reset: expected 0, observed %lld", (long long)result);
    lab_renew(lab, page);
    victim = scratch_victim(lab, cell->device, page, iova);
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    lab_set_up_device(lab, cell->device);
}

/*
 * A page that its domain maps, by a mapping that the driver knows nothing of and cannot
 * take back before it detaches the device.
 */
static void pre_init_after_detach(struct lab *lab, struct lab_cell *cell)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    struct lab_request request = { .device = cell->device,
                                   .iova = untranslated ? page->gpa : LAB_HIGH_IOVA,
                                   .len = ATTACK_PAGE_BYTES,
                                   .gate = LAB_OPEN };
    struct abi_dma map = {
        .iova = LAB_HIGH_IOVA, .bytes = ATTACK_PAGE_BYTES, .gpa = page->gpa, .rights = RULES_BOTH
    };
    struct lab_victim victim;
    int64_t result;

    lab_renew(lab, page);
    if (!untranslated) {
        result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
        lab_check(cell, !result && !map.value, "map a page: expected 0 and OK, observed %lld, %llu",
                  (long long)result, (unsigned long long)map.value);
    }
    lab_check(cell, lab_read(lab, cell, &request, page->truth) == ATTACK_PAGE_BYTES,
              "read while attached: expected the page, observed something else");
    result = lab_dma(lab, cell->device, ABI_DMA_DETACH, &map);
    lab_check(cell, result == 0, "detach: expected 0, observed %lld", (long long)result);
    victim = scratch_victim(lab, cell->device, page, request.iova);
    request.gate = lab->policy->iommu ? LAB_SHUT : LAB_OPEN;
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    /* In a domain that others keep alive, it is still there. */
    map.last = LAB_HIGH_IOVA + ATTACK_PAGE_BYTES - 1;
    if (!untranslated)
        lab_dma(lab, cell->device, ABI_DMA_RAW_UNMAP, &map);
    lab_set_up_device(lab, cell->device);
}

static void pre_init_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_cell *boot = &lab->boot[cell->device];

    if (n) {
        (n == 1 ? pre_init_after_reset : pre_init_after_detach)(lab, cell);
        return;
    }
    cell->observed.succeeds = boot->observed.succeeds;
    cell->observed.read_bytes = boot->observed.read_bytes;
    cell->observed.write_bytes = boot->observed.write_bytes;
    lab_merge(cell, boot);
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
