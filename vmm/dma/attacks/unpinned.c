/* A page is freed and used anew while it is mapped. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/buffer.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

#define COVER_PAGES 4
#define FRESH_PAGES 24

static bool unpinned_expect(const struct policy *policy, unsigned device, unsigned n,
                            struct attack_plan *plan)
{
    bool freed = rules_device(policy, device)->flags & ABI_DEVICE_NO_PIN;
    const struct expect_page page = {
        .target = "freed page",
        .weak = freed && !rules_bounces(policy, device),
        .why_weak = "no pin: a page is given away while it is mapped",
        .why_not = freed ? "the device had a copy; the page itself was not mapped"
                         : "a mapped page is pinned until UNMAP",
    };

    return expect_page(policy, device, n, &page, plan);
}

/*
 * What the program's next pages hold does not matter; one of them may well be in the
 * very frame that was given away.
 */
static void unpinned_attack_reused(struct harness *harness, struct matrix_cell *cell,
                                   uint64_t freed, uint64_t iova, uint64_t fresh_va)
{
    const struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ANY };
    uint8_t expected_bytes[ATTACK_PAGE_BYTES];
    uint64_t victim_gpa = 0;
    struct harness_victim victim = { .expected_bytes = expected_bytes,
                                     .len = ATTACK_PAGE_BYTES,
                                     .nplaces = 1 };

    for (unsigned i = 0; i < FRESH_PAGES; i++) {
        uint64_t gpa = harness_guest_gpa(&harness->guest, fresh_va + i * ATTACK_PAGE_BYTES);

        if (gpa && victim_gpa != freed)
            victim_gpa = gpa;
    }
    victim.place[0] = memory_at(harness->memory, victim_gpa, ATTACK_PAGE_BYTES);
    if (!harness_check(cell, victim_gpa && victim.place[0], "expected fresh pages, observed none"))
        return;
    harness_random_fill(harness, expected_bytes, sizeof(expected_bytes));
    memcpy(victim.place[0], expected_bytes, sizeof(expected_bytes));
    harness_victim_add(&victim, iova, HARNESS_NOBODY);
    if (rules_untranslated(harness->policy, cell->device))
        harness_victim_add(&victim, victim_gpa, HARNESS_NOBODY);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
}

static struct abi_harness_command unpinned_pages_command(enum abi_harness_op op, uint64_t va,
                                                         uint64_t pages)
{
    return (struct abi_harness_command){ .op = op,
                                         .dma.va = va,
                                         .dma.bytes = pages * ATTACK_PAGE_BYTES };
}

static void unpinned_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct abi_harness_command pages[] = {
        unpinned_pages_command(ABI_HARNESS_MAP_PAGE, 0, 1),
        unpinned_pages_command(ABI_HARNESS_MAP_PAGE, 0, COVER_PAGES),
        unpinned_pages_command(ABI_HARNESS_MAP_PAGE, 0, FRESH_PAGES),
    };
    struct abi_harness_command map = harness_command(cell->device, ABI_DMA_MAP), reuse[3];
    bool copies = rules_bounces(harness->policy, cell->device);
    uint64_t gpa;

    (void)n;
    if (harness_call(harness, pages, 3))
        return;
    gpa = harness_guest_gpa(&harness->guest, pages[0].dma.va);
    map.dma.va = pages[0].dma.va;
    map.dma.bytes = ATTACK_PAGE_BYTES;
    map.dma.rights = RULES_BOTH;
    if (harness_call(harness, &map, 1) ||
        !harness_check(cell, !map.result && gpa, "map a fresh page: expected 0, observed %lld",
                       (long long)map.result))
        return;
    if (harness->iommu && !copies && !rules_untranslated(harness->policy, cell->device))
        harness_check(cell,
                      iommu_pinned(harness->iommu, gpa, ATTACK_PAGE_BYTES) ==
                          !rules_disabled(harness->policy, IOMMU_CHECK_PIN),
                      "a mapped page: expected the IOMMU %s it, observed the contrary",
                      rules_disabled(harness->policy, IOMMU_CHECK_PIN) ? "not to pin" : "to pin");
    /*
     * Frames are given out again last in, first out: those on top of the one that matters
     * are for the stack and other pages that move too.
     */
    reuse[0] = unpinned_pages_command(ABI_HARNESS_UNMAP_PAGE, pages[0].dma.va, 1);
    reuse[1] = unpinned_pages_command(ABI_HARNESS_UNMAP_PAGE, pages[1].dma.va, COVER_PAGES);
    reuse[2] = unpinned_pages_command(ABI_HARNESS_COPY_PAGES, pages[2].dma.va, FRESH_PAGES);
    if (harness_call(harness, reuse, 3))
        return;
    unpinned_attack_reused(harness, cell, gpa, map.dma.iova, pages[2].dma.va);
    buffer_unmap(harness, cell, map.dma.iova);
    pages[2].op = ABI_HARNESS_UNMAP_PAGE;
    harness_call(harness, &pages[2], 1);
}

const struct attack attack_unpinned = {
    .name = "unpinned",
    .mechanism = "a page is freed and reused while it is mapped",
    .stopped_by = "pin until UNMAP",
    .source = "VFIO and iommufd: pinned pages",
    .expect = unpinned_expect,
    .run = unpinned_run,
};
