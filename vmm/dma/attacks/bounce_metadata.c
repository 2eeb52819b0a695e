/* The device corrupts what drives the copies of a bounce pool. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

static bool bounce_metadata_expect(const struct policy *policy, unsigned device, unsigned n,
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

/* From where on the device has the pool. */
static bool bounce_metadata_pool(struct harness *harness, unsigned device, uint64_t *iova)
{
    uint64_t gpa = harness->region_gpa[rules_device(harness->policy, device)->pool];

    *iova = gpa;
    return gpa && (rules_untranslated(harness->policy, device) ||
                   harness_iova_of(harness, device, gpa, iova));
}

static void bounce_metadata_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    struct harness_page *secret = harness_page(harness, HARNESS_PAGE_SECRET);
    struct abi_harness_command map = harness_map_command(
        harness, cell->device, (unsigned)(page - harness->test_pages), RULES_BOTH);
    struct abi_bounce_slot spoofed = { .gpa = secret->gpa,
                                       .bytes = ABI_BOUNCE_BYTES,
                                       .in_use = RULES_BOTH + 4 };
    struct dma_request request = { .len = sizeof(spoofed),
                                   .direction = DMA_WRITE,
                                   .data = &spoofed };
    struct dma_outcome outcome;
    uint64_t pool = 0, slot;
    uint8_t before[sizeof(spoofed)] = { 0 }, *host;

    (void)n;
    if (harness_call(harness, &map, 1))
        return;
    if (!harness_check(
            cell,
            !map.result && bounce_metadata_pool(harness, cell->device, &pool) &&
                map.dma.iova >= pool,
            "map a buffer: expected it in the pool, observed result %lld, address 0x%llx",
            (long long)map.result, (unsigned long long)map.dma.iova))
        return;
    slot = (map.dma.iova - pool) / ABI_BOUNCE_BYTES;
    request.iova = pool + slot * sizeof(spoofed);
    host = harness_host(harness, cell->device, request.iova, sizeof(spoofed));
    if (host)
        memcpy(before, host, sizeof(before));
    dma_perform(harness->dma[cell->device], &request, &outcome);
    harness_check(cell, outcome.done == sizeof(spoofed),
                  "write into the pool: expected %zu bytes done, observed %llu", sizeof(spoofed),
                  (unsigned long long)outcome.done);
    harness_dma(harness, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = map.dma.iova });
    cell->observed.succeeds = memcmp(secret->host, secret->expected_bytes, ATTACK_PAGE_BYTES) != 0;
    /* Where it was no book-keeping, it was other data of the guest. */
    if (host && !cell->observed.succeeds)
        memcpy(host, before, sizeof(before));
    harness_restore(secret);
    harness_restore(page);
}

const struct attack attack_bounce_metadata = {
    .name = "bounce-metadata",
    .mechanism = "the device corrupts what drives bounce copies",
    .stopped_by = "book-keeping out of reach; validate lengths",
    .source = "VIA, ACSAC'21",
    .expect = bounce_metadata_expect,
    .run = bounce_metadata_run,
};
