/* Neighbours on a buffer's page are read and written. */
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/buffer.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define DATA_AT    0x800u /* of the buffer's page */
#define DATA_BYTES 256u

static bool co_location_expect(const struct policy *policy, unsigned device, unsigned n,
                               struct attack_plan *plan)
{
    if (n)
        return false;
    expect_neighbour(policy, device, "neighbour", DATA_BYTES, plan);
    return true;
}

static void co_location_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ANY };
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SHARED);
    struct harness_victim victim;
    uint64_t iova;

    (void)n;
    harness_renew(harness, page);
    iova = buffer_map(harness, cell, page);
    if (!iova)
        return;
    victim = buffer_neighbour(page, iova, DATA_AT, DATA_BYTES);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    buffer_unmap(harness, cell, iova);
}

const struct attack attack_co_location = {
    .name = "co-location",
    .mechanism = "neighbours on a buffer's page are read and written",
    .stopped_by = "page-exclusive buffers, or copies",
    .source = "Thunderclap, NDSS'19; Markuze, ASPLOS'16",
    .expect = co_location_expect,
    .run = co_location_run,
};
