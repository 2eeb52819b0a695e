#include "vmm/dma/attacks/region.h"

#include <string.h>

#include "vmm/machine/memory.h"

/*
 * Memory that is not the program's, filled with canaries for as long as it is attacked.
 * The world stands still, so that nobody misses what was there.
 */
void region_attack_elsewhere(struct lab *lab, struct lab_cell *cell, uint64_t gpa)
{
    uint8_t *host = memory_at(lab->memory, gpa, ATTACK_PAGE_BYTES);
    const struct lab_request request = { .device = cell->device, .gate = LAB_SHUT };
    uint8_t before[ATTACK_PAGE_BYTES], truth[ATTACK_PAGE_BYTES];
    struct lab_victim victim = {
        .truth = truth, .len = ATTACK_PAGE_BYTES, .place = { host }, .nplaces = 1
    };

    if (!lab_check(cell, gpa && host, "expected memory at 0x%llx, observed none",
                   (unsigned long long)gpa))
        return;
    memcpy(before, host, sizeof(before));
    lab_random_fill(lab, truth, sizeof(truth));
    memcpy(host, truth, sizeof(truth));
    lab_victim_add(&victim, gpa, LAB_NOBODY);
    for (unsigned d = 0; d < lab->policy->guest.ndevices; d++) {
        uint64_t iova;

        if (lab_iova_of(lab, d, gpa, &iova))
            lab_victim_add(&victim, iova, rules_device(lab->policy, d)->endpoint);
    }
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    memcpy(host, before, sizeof(before));
}

void region_attack(struct lab *lab, struct lab_cell *cell, unsigned region, uint32_t wanted,
                   bool claims)
{
    const struct abi_policy_region *r = &lab->policy->guest.region[region];
    const struct lab_request request = { .device = cell->device,
                                         .gate = claims ? LAB_ANY : LAB_SHUT,
                                         .claims = claims };

    for (unsigned k = 0; k < rules_region_bytes(lab->policy, region) / ATTACK_PAGE_BYTES; k++) {
        uint64_t at = k * ATTACK_PAGE_BYTES;
        struct lab_victim victim;

        if (r->kind != ABI_REGION_BUFFER) {
            region_attack_elsewhere(lab, cell,
                                    lab->region_gpa[region] ? lab->region_gpa[region] + at : 0);
            continue;
        }
        lab_victim_region(lab, &victim, region, k);
        lab_attack(lab, cell, &request, &victim, wanted);
    }
}

uint32_t region_not_its_own(const struct lab *lab, unsigned device, unsigned region)
{
    return RULES_BOTH & ~rules_own(lab->policy, device, region);
}
