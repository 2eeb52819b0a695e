/* A DMA buffer shares its page with a callback, which the guest calls. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/buffer.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define POINTER_AT    0x40u /* of the buffer's page */
#define POINTER_BYTES 8u

static bool kernel_pointer_expect(const struct policy *policy, unsigned device, unsigned n,
                                  struct attack_plan *plan)
{
    if (n)
        return false;
    expect_neighbour(policy, device, "callback", POINTER_BYTES, plan);
    return true;
}

/* Lets the guest call through the pointer while it is what the device made of it. */
static uint64_t kernel_pointer_hijack(struct lab *lab, struct lab_cell *cell,
                                      const struct lab_victim *victim, uint64_t va)
{
    struct abi_lab_command call = { .op = ABI_LAB_CALL, .dma.va = va };
    uint64_t forged = lab->guest.page->hijacked, before[LAB_ADDRESSES];
    uint8_t *hit[LAB_ADDRESSES];

    for (unsigned i = 0; i < victim->naddresses; i++) {
        const struct dma_request request = { .iova = victim->address[i],
                                             .len = sizeof(forged),
                                             .direction = DMA_WRITE,
                                             .data = &forged };
        struct dma_outcome outcome;

        hit[i] = lab_host(lab, cell->device, victim->address[i], sizeof(forged));
        if (hit[i])
            memcpy(&before[i], hit[i], sizeof(before[i]));
        dma_perform(lab->dma[cell->device], &request, &outcome);
    }
    if (lab_call(lab, &call, 1))
        return 0;
    for (unsigned i = victim->naddresses; i-- > 0;) {
        if (hit[i])
            memcpy(hit[i], &before[i], sizeof(before[i]));
    }
    return call.dma.value;
}

static void kernel_pointer_run(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct lab_page *page = lab_page(lab, LAB_PAGE_SHARED);
    uint64_t honest = lab->guest.page->honest, iova, called;
    struct lab_victim victim;

    (void)n;
    memcpy(lab->truth + (page - lab->arena) * ATTACK_PAGE_BYTES + POINTER_AT, &honest,
           sizeof(honest));
    lab_restore(page);
    iova = buffer_map(lab, cell, page);
    if (!iova)
        return;
    victim = buffer_neighbour(page, iova, POINTER_AT, POINTER_BYTES);
    lab_attack(lab, cell, &request, &victim, RULES_BOTH);
    called = kernel_pointer_hijack(lab, cell, &victim, page->va + POINTER_AT);
    lab_restore(page);
    lab_check(cell, called == (cell->expected.write_bytes ? ABI_LAB_HIJACKED : ABI_LAB_HONEST),
              "the guest calls through the pointer: expected %s function, observed %s",
              cell->expected.write_bytes ? "the attacker's" : "its own",
              called == ABI_LAB_HIJACKED ? "the attacker's"
              : called == ABI_LAB_HONEST ? "its own"
                                         : "neither");
    buffer_unmap(lab, cell, iova);
}

const struct attack attack_kernel_pointer = {
    .name = "kernel-pointer",
    .mechanism = "a DMA buffer shares its page with a callback",
    .stopped_by = "page-exclusive buffers, or a bounce pool",
    .source = "Thunderclap, NDSS'19",
    .expect = kernel_pointer_expect,
    .run = kernel_pointer_run,
};
