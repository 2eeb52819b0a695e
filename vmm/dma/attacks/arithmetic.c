/* Ends at 2^64-1, physical and request wrap-around. */
#include <linux/virtio_iommu.h>
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

static bool arithmetic_expect(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    static const char *const targets[] = { "map to 2^64-1", "map beyond RAM", "unmap a part",
                                           "request wraps" };
    const unsigned request = sizeof(targets) / sizeof(targets[0]) - 1;
    bool untranslated = rules_untranslated(policy, device);
    bool wraps = !policy->iommu || (untranslated && rules_disabled(policy, IOMMU_CHECK_WRAP));

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

/* A mapping that cannot be: refused, and nothing of it is there. */
static void arithmetic_map(struct harness *harness, struct matrix_cell *cell, uint64_t first,
                           uint64_t last, uint64_t gpa)
{
    struct abi_dma map = { .iova = first, .last = last, .gpa = gpa, .rights = RULES_BOTH };
    int64_t result = harness_dma(harness, cell->device, ABI_DMA_RAW_MAP, &map);
    const uint64_t points[] = { first, last / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES,
                                HARNESS_HIGH_IOVA };

    harness_check(
        cell, result == 0 && map.value != VIRTIO_IOMMU_S_OK,
        "map 0x%llx to 0x%llx at 0x%llx: expected a refusal, observed result %lld, status "
        "%llu",
        (unsigned long long)first, (unsigned long long)last, (unsigned long long)gpa,
        (long long)result, (unsigned long long)map.value);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        uint64_t word = 0;
        const struct dma_request request = {
            .iova = points[i], .len = sizeof(word), .direction = DMA_READ, .data = &word
        };
        struct dma_outcome outcome;

        dma_perform(harness->dma[cell->device], &request, &outcome);
        if (!outcome.error)
            cell->observed.read_bytes = sizeof(word);
    }
}

/* Half of a mapping is unmapped: all of it stays, or none of it would be known to be there. */
static void arithmetic_unmap_part(struct harness *harness, struct matrix_cell *cell)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    uint64_t two_pages = page->gpa / (2 * ATTACK_PAGE_BYTES) * (2 * ATTACK_PAGE_BYTES);
    struct abi_dma map = { .iova = HARNESS_HIGH_IOVA,
                           .last = HARNESS_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1,
                           .gpa = two_pages,
                           .rights = RULES_BOTH };
    int64_t result = harness_dma(harness, cell->device, ABI_DMA_RAW_MAP, &map);

    harness_check(cell, !result && map.value == VIRTIO_IOMMU_S_OK,
                  "map two pages: expected OK, observed %lld, status %llu", (long long)result,
                  (unsigned long long)map.value);
    map.last = HARNESS_HIGH_IOVA + ATTACK_PAGE_BYTES - 1;
    result = harness_dma(harness, cell->device, ABI_DMA_RAW_UNMAP, &map);
    harness_check(cell, !result && map.value == VIRTIO_IOMMU_S_RANGE,
                  "unmap one of them: expected status %d, observed %lld, status %llu",
                  VIRTIO_IOMMU_S_RANGE, (long long)result, (unsigned long long)map.value);
    harness_check(cell,
                  harness_mapped(harness, cell->device, HARNESS_HIGH_IOVA) &&
                      harness_mapped(harness, cell->device, HARNESS_HIGH_IOVA + ATTACK_PAGE_BYTES),
                  "after that: expected both pages to be mapped, observed that one is not");
    map.last = HARNESS_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1;
    harness_dma(harness, cell->device, ABI_DMA_RAW_UNMAP, &map);
}

/* A request whose end is past 2^64: what comes after is not what lies at 0. */
static void arithmetic_wrap(struct harness *harness, struct matrix_cell *cell)
{
    uint8_t data[16], *zero = memory_at(harness->memory, 0, 8), before[8];
    const struct dma_request request = {
        .iova = 0ull - 8, .len = sizeof(data), .direction = DMA_READ, .data = data
    };
    struct dma_outcome outcome;

    memcpy(before, zero, sizeof(before));
    harness_random_fill(harness, zero, sizeof(before));
    for (unsigned i = 0; i < 8; i++)
        data[8 + i] = (uint8_t)~zero[i];
    dma_perform(harness->dma[cell->device], &request, &outcome);
    if (!memcmp(data + 8, zero, 8))
        cell->observed.read_bytes = 8;
    memcpy(zero, before, sizeof(before));
    harness_check(cell, outcome.error < 0, "the device must see an error, observed %d",
                  -outcome.error);
}

static void arithmetic_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    uint64_t last = ~0ull;

    switch (n) {
    case 0: arithmetic_map(harness, cell, HARNESS_HIGH_IOVA, last, 0); break;
    case 1:
        arithmetic_map(harness, cell, HARNESS_HIGH_IOVA,
                       HARNESS_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1, 0ull - ATTACK_PAGE_BYTES);
        harness_settle(harness);
        arithmetic_map(harness, cell, HARNESS_HIGH_IOVA,
                       HARNESS_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1,
                       (harness->memory->bytes - ATTACK_PAGE_BYTES));
        break;
    case 2: arithmetic_unmap_part(harness, cell); break;
    default: arithmetic_wrap(harness, cell); break;
    }
    harness_conclude(cell);
}

const struct attack attack_arithmetic = {
    .name = "arithmetic",
    .mechanism = "ends at 2^64-1, physical and request wrap-around",
    .stopped_by = "checked arithmetic",
    .source = "virtio 1.2, 5.13: inclusive ends",
    .expect = arithmetic_expect,
    .run = arithmetic_run,
};
