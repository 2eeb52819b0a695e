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
static uint64_t kernel_pointer_hijack(struct harness *harness, struct matrix_cell *cell,
                                      const struct harness_victim *victim, uint64_t va)
{
    struct abi_harness_command call = { .op = ABI_HARNESS_CALL, .dma.va = va };
    uint64_t spoofed = harness->guest.page->hijacked, before[HARNESS_ADDRESSES];
    uint8_t *hit[HARNESS_ADDRESSES];

    for (unsigned i = 0; i < victim->naddresses; i++) {
        const struct dma_request request = { .iova = victim->address[i],
                                             .len = sizeof(spoofed),
                                             .direction = DMA_WRITE,
                                             .data = &spoofed };
        struct dma_outcome outcome;

        hit[i] = harness_host(harness, cell->device, victim->address[i], sizeof(spoofed));
        if (hit[i])
            memcpy(&before[i], hit[i], sizeof(before[i]));
        dma_perform(harness->dma[cell->device], &request, &outcome);
    }
    if (harness_call(harness, &call, 1))
        return 0;
    for (unsigned i = victim->naddresses; i-- > 0;) {
        if (hit[i])
            memcpy(hit[i], &before[i], sizeof(before[i]));
    }
    return call.dma.value;
}

static void kernel_pointer_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct harness_request request = { .device = cell->device, .expect = HARNESS_EXPECT_ANY };
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SHARED);
    uint64_t honest = harness->guest.page->honest, iova, called;
    struct harness_victim victim;

    (void)n;
    memcpy(harness->expected_bytes + (page - harness->test_pages) * ATTACK_PAGE_BYTES + POINTER_AT,
           &honest, sizeof(honest));
    harness_restore(page);
    iova = buffer_map(harness, cell, page);
    if (!iova)
        return;
    victim = buffer_neighbour(page, iova, POINTER_AT, POINTER_BYTES);
    harness_attack(harness, cell, &request, &victim, RULES_BOTH);
    called = kernel_pointer_hijack(harness, cell, &victim, page->va + POINTER_AT);
    harness_restore(page);
    harness_check(
        cell, called == (cell->expected.write_bytes ? ABI_HARNESS_HIJACKED : ABI_HARNESS_HONEST),
        "the guest calls through the pointer: expected %s function, observed %s",
        cell->expected.write_bytes ? "the attacker's" : "its own",
        called == ABI_HARNESS_HIJACKED ? "the attacker's"
        : called == ABI_HARNESS_HONEST ? "its own"
                                       : "neither");
    buffer_unmap(harness, cell, iova);
}

const struct attack attack_kernel_pointer = {
    .name = "kernel-pointer",
    .mechanism = "a DMA buffer shares its page with a callback",
    .stopped_by = "page-exclusive buffers, or a bounce pool",
    .source = "Thunderclap, NDSS'19",
    .expect = kernel_pointer_expect,
    .run = kernel_pointer_run,
};
