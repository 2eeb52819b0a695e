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

static void alias_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct abi_lab_command commands[2] = {
        lab_map_command(lab, cell->device, (unsigned)(page - lab->arena), RULES_BOTH),
        lab_map_command(lab, cell->device, (unsigned)(page - lab->arena), RULES_BOTH),
    };
    struct lab_victim victim;
    uint64_t alias;

    (void)n;
    lab_renew(lab, page);
    commands[1].operation = ABI_DMA_ALIAS;
    if (lab_call(lab, commands, 2))
        return;
    if (!lab_check(cell, !commands[0].result && !commands[1].result,
                   "map a page twice: expected 0 and 0, observed %lld and %lld",
                   (long long)commands[0].result, (long long)commands[1].result))
        return;
    alias = commands[1].dma.iova;
    buffer_unmap(lab, cell, commands[0].dma.iova);
    lab_victim_page(&victim, page);
    if (!rules_untranslated(lab->policy, cell->device)) {
        victim.naddresses = 0;
        request.gate = cell->expected.succeeds ? LAB_OPEN : LAB_SHUT;
    }
    lab_victim_add(&victim, alias, LAB_NOBODY);
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    /* Where it was revoked with the other one, there is nothing left to unmap. */
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = alias });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = alias });
}

const struct attack attack_alias = {
    .name = "alias",
    .mechanism = "one page at several addresses, one of them revoked",
    .stopped_by = "revoke all aliases; count references",
    .source = "Markuze, EuroSys'21",
    .expect = alias_expect,
    .run = alias_run,
};
