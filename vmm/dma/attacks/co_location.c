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

static void co_location_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct lab_page *page = lab_page(lab, LAB_PAGE_SHARED);
    struct lab_victim victim;
    uint64_t iova;

    (void)n;
    lab_renew(lab, page);
    iova = buffer_map(lab, cell, page);
    if (!iova)
        return;
    victim = buffer_neighbour(page, iova, DATA_AT, DATA_BYTES);
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    buffer_unmap(lab, cell, iova);
}

const struct attack attack_co_location = {
    .name = "co-location",
    .mechanism = "neighbours on a buffer's page are read and written",
    .stopped_by = "page-exclusive buffers, or copies",
    .source = "Thunderclap, NDSS'19; Markuze, ASPLOS'16",
    .expect = co_location_expect,
    .run = co_location_run,
};
