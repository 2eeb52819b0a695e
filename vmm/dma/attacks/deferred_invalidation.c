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

static void deferred_invalidation_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    bool lazy = rules_device(lab->policy, cell->device)->mode == ABI_DMA_LAZY;
    unsigned tries = cell->expected.succeeds ? LAZY_TRIES : 1;

    (void)n;
    lab_merge(cell, &lab->unmapping[cell->device]);
    for (unsigned i = 0; i < tries && !cell->observed.succeeds; i++) {
        struct lab_request request = { .device = cell->device, .gate = LAB_OPEN };
        uint8_t old[ATTACK_PAGE_BYTES];
        struct lab_victim victim;
        uint64_t iova = scratch_map(lab, cell, page);
        int64_t result;

        if (!iova)
            return;
        /* Legitimate, and now whoever caches translations has this one. */
        request.iova = iova;
        request.len = ATTACK_PAGE_BYTES;
        memcpy(old, page->truth, sizeof(old));
        lab_check(cell, lab_read(lab, cell, &request, old) == sizeof(old),
                  "read while mapped: expected the page, observed something else");
        result = lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = iova });
        lab_check(cell, result == 0, "unmap: expected 0, observed %lld", (long long)result);
        /* The driver has the page back and uses it for something else. */
        lab_renew(lab, page);
        victim = scratch_victim(lab, cell->device, page, iova);
        request.gate = lazy ? LAB_ANY : scratch_gate_after_unmap(lab, cell->device);
        lab_attack(lab, cell, &request, &victim, RULES_BOTH);
        lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = iova });
        if (rules_untranslated(lab->policy, cell->device))
            continue;
        /* After the flush nothing is left, however lazy. */
        request.gate = scratch_gate_after_unmap(lab, cell->device);
        lab_check(cell, lab_read(lab, cell, &request, page->truth) == 0,
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
