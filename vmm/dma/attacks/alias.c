/* One page at several addresses, of which one is unmapped. */
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/buffer.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

static bool alias_expect(const struct policy *policy, unsigned device, unsigned n,
                         struct attack_plan *plan)
{
    const struct expect_page page = {
        .target = "alias",
        .weak = rules_device(policy, device)->flags & ABI_DEVICE_ALIASES_STAY,
        .why_weak = "aliases stay: unmapping one address leaves the others",
        .why_not = "all addresses of the page are revoked together",
    };

    return expect_page(policy, device, n, &page, plan);
}

static void alias_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ANY };
    struct abi_harness_command commands[2] = {
        harness_map_command(harness, cell->device, (unsigned)(page - harness->test_pages),
                            RULES_BOTH),
        harness_map_command(harness, cell->device, (unsigned)(page - harness->test_pages),
                            RULES_BOTH),
    };
    struct harness_victim victim;
    uint64_t alias;

    (void)n;
    harness_renew(harness, page);
    commands[1].operation = ABI_DMA_ALIAS;
    if (harness_call(harness, commands, 2))
        return;
    if (!harness_check(cell, !commands[0].result && !commands[1].result,
                       "map a page twice: expected 0 and 0, observed %lld and %lld",
                       (long long)commands[0].result, (long long)commands[1].result))
        return;
    alias = commands[1].dma.iova;
    buffer_unmap(harness, cell, commands[0].dma.iova);
    harness_victim_page(&victim, page);
    if (!rules_untranslated(harness->policy, cell->device)) {
        victim.naddresses = 0;
        request.expect = cell->expected.succeeds ? HARNESS_EXPECT_ALLOW : HARNESS_EXPECT_DENY;
    }
    harness_victim_add(&victim, alias, HARNESS_NOBODY);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    /* Where it was revoked with the other one, there is nothing left to unmap. */
    harness_dma(harness, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = alias });
    harness_dma(harness, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = alias });
}

const struct attack attack_alias = {
    .name = "alias",
    .mechanism = "one page at several addresses, one of them revoked",
    .stopped_by = "revoke all aliases; count references",
    .source = "Markuze, EuroSys'21",
    .expect = alias_expect,
    .run = alias_run,
};
