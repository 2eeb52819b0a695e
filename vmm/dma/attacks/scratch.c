#include "vmm/dma/attacks/scratch.h"

#include "vmm/dma/setup.h"

uint64_t scratch_map(struct lab *lab, struct lab_cell *cell, struct lab_page *page)
{
    struct abi_lab_command map = lab_map_command(lab, cell->device, (unsigned)(page - lab->arena),
                                                 RULES_BOTH);

    lab_renew(lab, page);
    if (lab_call(lab, &map, 1))
        return 0;
    lab_check(cell, map.result == 0, "map a page: expected 0, observed %lld",
              (long long)map.result);
    return map.result ? 0 : map.dma.iova;
}

struct lab_victim scratch_victim(struct lab *lab, unsigned device, struct lab_page *page,
                                 uint64_t iova)
{
    struct lab_victim victim;

    lab_victim_page(&victim, page);
    if (!rules_untranslated(lab->policy, device))
        victim.naddresses = 0;
    lab_victim_add(&victim, iova, LAB_NOBODY);
    return victim;
}

/* A slot of a pool is mapped for good; only what is in it tells. */
enum lab_gate scratch_gate_after_unmap(struct lab *lab, unsigned device)
{
    bool pool = rules_bounces(lab->policy, device);

    return rules_untranslated(lab->policy, device) || pool ? LAB_ANY : LAB_SHUT;
}
