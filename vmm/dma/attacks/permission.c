/* Write to a mapping for reading, read of one for writing, and past their end. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"

#define CROSSING_BYTES 64

static bool permission_expect(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t own, other_way, reach = 0;
    const char *because = "the mapping allows one direction only";

    if (n >= policy->guest.nregions)
        return false;
    own = rules_own(policy, device, n);
    other_way = RULES_BOTH & ~own;
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
    } else if (rules_disabled(policy, IOMMU_CHECK_PERMISSION)) {
        reach = other_way;
        because = "lacks permission: READ and WRITE are not looked at";
    }
    expect_effect(plan, region->name, reach, rules_region_bytes(policy, n), because);
    return true;
}

/* A request that runs out of its mapping: what lies beyond stays untouched, and says so. */
static void permission_cross(struct harness *harness, struct matrix_cell *cell, uint64_t iova,
                             enum dma_direction way)
{
    uint64_t end = (iova / ATTACK_PAGE_BYTES + 1) * ATTACK_PAGE_BYTES;
    uint8_t data[CROSSING_BYTES] = { 0 };
    const struct dma_request request = {
        .iova = end - CROSSING_BYTES / 2, .len = CROSSING_BYTES, .direction = way, .data = data
    };
    uint8_t *host = harness_host(harness, cell->device, end - CROSSING_BYTES / 2,
                                 CROSSING_BYTES / 2);
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;

    if (harness_mapped(harness, cell->device, end) || !host)
        return;
    if (way == DMA_WRITE)
        memcpy(data, host, CROSSING_BYTES / 2);
    dma_perform(harness->dma[cell->device], &request, &outcome);
    harness_faults(harness, &fault);
    harness_check(
        cell, outcome.error && outcome.done <= CROSSING_BYTES / 2 && fault.iova == end,
        "%u bytes across the end of a mapping: expected a fault at 0x%llx, observed error %d, "
        "%llu bytes done, the last fault at 0x%llx",
        CROSSING_BYTES, (unsigned long long)end, -outcome.error, (unsigned long long)outcome.done,
        (unsigned long long)fault.iova);
}

/* The direction that is allowed works; the other one is what the cell is about. */
static void permission_attack_page(struct harness *harness, struct matrix_cell *cell,
                                   unsigned region, unsigned k, uint64_t iova)
{
    uint32_t own = rules_own(harness->policy, cell->device, region);
    bool untranslated = rules_untranslated(harness->policy, cell->device);
    bool pool = rules_bounces(harness->policy, cell->device);
    bool unchecked = rules_disabled(harness->policy, IOMMU_CHECK_PERMISSION);
    struct harness_request request = { .device = cell->device,
                                       .iova = iova,
                                       .len = ATTACK_PAGE_BYTES,
                                       .expect = HARNESS_EXPECT_ALLOW };
    struct harness_page *page = &harness->test_pages[harness->first_page[region] + k];
    struct harness_victim victim;

    harness_victim_page(&victim, page);
    if (own & RULES_READ)
        harness_check(
            cell, harness_read(harness, cell, &request, page->expected_bytes) == ATTACK_PAGE_BYTES,
            "its own buffer: expected to read it, observed something else");
    if (own & RULES_WRITE)
        harness_write(harness, cell, &request, &victim);
    if (!untranslated)
        permission_cross(harness, cell, iova, own & RULES_READ ? DMA_READ : DMA_WRITE);
    /* A pool is mapped both ways; which way its slots are copied is the driver's doing. */
    request.expect = untranslated || pool || unchecked ? HARNESS_EXPECT_ANY : HARNESS_EXPECT_DENY;
    if (own == RULES_WRITE) {
        uint64_t read = harness_read(harness, cell, &request, page->expected_bytes);

        if (!read && untranslated) {
            request.iova = page->gpa;
            read = harness_read(harness, cell, &request, page->expected_bytes);
        }
        cell->observed.read_bytes += read;
    } else {
        uint64_t written = harness_write(harness, cell, &request, &victim);

        if (!written && untranslated) {
            request.iova = page->gpa;
            written = harness_write(harness, cell, &request, &victim);
        }
        cell->observed.write_bytes += written;
    }
    harness_conclude(cell);
}

static void permission_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct abi_policy_device *d = rules_device(harness->policy, cell->device);

    for (unsigned k = 0; k < rules_region_bytes(harness->policy, n) / ATTACK_PAGE_BYTES; k++) {
        for (unsigned use = 0; use < d->nuses; use++) {
            if (d->use[use].region != n || !harness->iova[cell->device][use][k])
                continue;
            permission_attack_page(harness, cell, n, k, harness->iova[cell->device][use][k]);
            break;
        }
    }
}

const struct attack attack_permission = {
    .name = "permission",
    .mechanism = "write to a read mapping, read of a write mapping",
    .stopped_by = "check direction, length and page crossing",
    .source = "virtio 1.2, 5.13: MAP flags",
    .expect = permission_expect,
    .run = permission_run,
};
