/* Access after unmap has returned, before the translation is invalidated. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/scratch.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/measures.h"
#include "vmm/dma/setup.h"

#define LAZY_TRIES 6 /* a flush may happen to come between unmap and access */

static bool deferred_invalidation_expect(const struct policy *policy, unsigned device, unsigned n,
                                         struct attack_plan *plan)
{
    bool lazy = rules_device(policy, device)->mode == ABI_DMA_LAZY;
    const struct expect_page page = {
        .target = "reused page",
        .weak = lazy && !rules_bounces(policy, device),
        .why_weak = "lazy: unmap takes effect at the next flush",
        .why_not = lazy ? "the device had a copy; the page itself was not mapped"
                        : "strict: unmap has taken effect when it returns",
    };

    return expect_page(policy, device, n, &page, plan);
}

static void deferred_invalidation_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    bool lazy = rules_device(harness->policy, cell->device)->mode == ABI_DMA_LAZY;
    unsigned tries = cell->expected.succeeds ? LAZY_TRIES : 1;

    (void)n;
    harness_merge(cell, &harness->unmapping[cell->device]);
    for (unsigned i = 0; i < tries && !cell->observed.succeeds; i++) {
        struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ALLOW };
        uint8_t old[ATTACK_PAGE_BYTES];
        struct harness_victim victim;
        uint64_t iova = scratch_map(harness, cell, page);
        int64_t result;

        if (!iova)
            return;
        /* Legitimate; from now on the IOTLB may hold this translation. */
        request.iova = iova;
        request.len = ATTACK_PAGE_BYTES;
        memcpy(old, page->expected_bytes, sizeof(old));
        harness_check(cell, harness_read(harness, cell, &request, old) == sizeof(old),
                      "read while mapped: expected the page, observed something else");
        result = harness_dma(harness, cell->device, ABI_DMA_UNMAP,
                             &(struct abi_dma){ .iova = iova });
        harness_check(cell, result == 0, "unmap: expected 0, observed %lld", (long long)result);
        /* The driver has the page back and uses it for something else. */
        harness_renew(harness, page);
        victim = scratch_victim(harness, cell->device, page, iova);
        request.expect = lazy ? HARNESS_EXPECT_ANY
                              : scratch_gate_after_unmap(harness, cell->device);
        harness_attack(harness, cell, &request, &victim, RULES_BOTH);
        harness_dma(harness, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
        if (rules_untranslated(harness->policy, cell->device))
            continue;
        /* After the flush nothing is left, however lazy. */
        request.expect = scratch_gate_after_unmap(harness, cell->device);
        harness_check(cell, harness_read(harness, cell, &request, page->expected_bytes) == 0,
                      "read after the flush: expected nothing, observed the page");
    }
}

const struct attack attack_deferred_invalidation = {
    .name = "deferred-invalidate",
    .mechanism = "access between unmap and invalidation",
    .stopped_by = "invalidate before the unmap completes",
    .source = "Markuze, ASPLOS'16",
    .expect = deferred_invalidation_expect,
    .run = deferred_invalidation_run,
    .prepare = measures_windows,
};
