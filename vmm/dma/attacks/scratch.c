#include "vmm/dma/attacks/scratch.h"

#include "vmm/dma/setup.h"

uint64_t scratch_map(struct harness *harness, struct matrix_cell *cell, struct harness_page *page)
{
    struct abi_harness_command map = harness_map_command(
        harness, cell->device, (unsigned)(page - harness->test_pages), RULES_BOTH);

    harness_renew(harness, page);
    if (harness_call(harness, &map, 1))
        return 0;
    harness_check(cell, map.result == 0, "map a page: expected 0, observed %lld",
                  (long long)map.result);
    return map.result ? 0 : map.dma.iova;
}

struct harness_victim scratch_victim(struct harness *harness, unsigned device,
                                     struct harness_page *page, uint64_t iova)
{
    struct harness_victim victim;

    harness_victim_page(&victim, page);
    if (!rules_untranslated(harness->policy, device))
        victim.naddresses = 0;
    harness_victim_add(&victim, iova, HARNESS_NOBODY);
    return victim;
}

/* A slot of a pool is mapped for good; only what is in it tells. */
enum harness_expect scratch_gate_after_unmap(struct harness *harness, unsigned device)
{
    bool pool = rules_bounces(harness->policy, device);

    return rules_untranslated(harness->policy, device) || pool ? HARNESS_EXPECT_ANY
                                                               : HARNESS_EXPECT_DENY;
}
