#include "vmm/dma/attacks/region.h"

#include <string.h>

#include "vmm/machine/memory.h"

/*
 * Memory that is not the program's, filled with canaries for as long as it is attacked.
 * The world stands still, so that the guest does not miss what was there.
 */
void region_attack_elsewhere(struct harness *harness, struct matrix_cell *cell, uint64_t gpa)
{
    uint8_t *host = memory_at(harness->memory, gpa, ATTACK_PAGE_BYTES);
    const struct harness_request request = { .device = cell->device,
                                             .expect = HARNESS_EXPECT_DENY };
    uint8_t before[ATTACK_PAGE_BYTES], expected_bytes[ATTACK_PAGE_BYTES];
    struct harness_victim victim = {
        .expected_bytes = expected_bytes, .len = ATTACK_PAGE_BYTES, .place = { host }, .nplaces = 1
    };

    if (!harness_check(cell, gpa && host, "expected memory at 0x%llx, observed none",
                       (unsigned long long)gpa))
        return;
    memcpy(before, host, sizeof(before));
    harness_random_fill(harness, expected_bytes, sizeof(expected_bytes));
    memcpy(host, expected_bytes, sizeof(expected_bytes));
    harness_victim_add(&victim, gpa, HARNESS_NOBODY);
    for (unsigned d = 0; d < harness->policy->guest.ndevices; d++) {
        uint64_t iova;

        if (harness_iova_of(harness, d, gpa, &iova))
            harness_victim_add(&victim, iova, rules_device(harness->policy, d)->endpoint);
    }
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    memcpy(host, before, sizeof(before));
}

void region_attack(struct harness *harness, struct matrix_cell *cell, unsigned region,
                   uint32_t wanted, bool claims)
{
    const struct abi_policy_region *r = &harness->policy->guest.region[region];
    const struct harness_request request = { .device = cell->device,
                                             .expect = claims ? HARNESS_EXPECT_ANY
                                                              : HARNESS_EXPECT_DENY,
                                             .claims = claims };

    for (unsigned k = 0; k < rules_region_bytes(harness->policy, region) / ATTACK_PAGE_BYTES; k++) {
        uint64_t at = k * ATTACK_PAGE_BYTES;
        struct harness_victim victim;

        if (r->kind != ABI_REGION_BUFFER) {
            region_attack_elsewhere(
                harness, cell, harness->region_gpa[region] ? harness->region_gpa[region] + at : 0);
            continue;
        }
        harness_victim_region(harness, &victim, region, k);
        harness_attack(harness, cell, &request, &victim, wanted);
    }
}

uint32_t region_not_its_own(const struct harness *harness, unsigned device, unsigned region)
{
    return RULES_BOTH & ~rules_own(harness->policy, device, region);
}
