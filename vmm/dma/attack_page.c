/* Attacks on what shares a page with a buffer, or had the page before or after it. */
#include <string.h>

#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"

#define BOTH (RULES_READ | RULES_WRITE)

/* The shared page: a callback pointer, the buffer, somebody else's data. */
#define POINTER_AT   0x40u
#define BUFFER_AT    0x400u
#define BUFFER_BYTES 0x200u
#define DATA_AT      0x800u

#define COVER_PAGES  4
#define FRESH_PAGES  24

/* Maps the buffer on the shared page for the device: its address, 0 if that failed. */
static uint64_t map_shared(struct lab *lab, struct lab_cell *cell, const struct lab_page *page)
{
    struct abi_dma dma = { .va = page->va + BUFFER_AT, .bytes = BUFFER_BYTES, .rights = BOTH };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_MAP, &dma);

    lab_check(cell, result == 0, "map a buffer: expected 0, observed %lld", (long long)result);
    return result ? 0 : dma.iova;
}

static void unmap(struct lab *lab, struct lab_cell *cell, uint64_t iova)
{
    struct abi_dma dma = { .iova = iova };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_UNMAP, &dma);

    /* Where a fault has had consequences, it is unmapped already. */
    if (rules_device(lab->policy, cell->device)->fault_action == ABI_FAULT_REPORT)
        lab_check(cell, result == 0, "unmap a buffer: expected 0, observed %lld",
                  (long long)result);
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &dma);
}

/* What lies at `at` of the buffer's page, from where the device sees the buffer. */
static struct lab_victim neighbour(struct lab_page *page, uint64_t iova, uint64_t at,
                                   uint64_t bytes)
{
    struct lab_victim victim = {
        .truth = page->truth + at, .len = bytes, .place = { page->host + at }, .nplaces = 1
    };

    lab_victim_add(&victim, iova / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES + at, LAB_NOBODY);
    lab_victim_add(&victim, iova - BUFFER_AT + at, LAB_NOBODY);
    lab_victim_add(&victim, page->gpa + at, LAB_NOBODY);
    return victim;
}

/* Lets the guest call through the pointer while it is what the device made of it. */
static uint64_t hijack(struct lab *lab, struct lab_cell *cell, const struct lab_victim *victim,
                       uint64_t va)
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
        dma_perform(lab->door[cell->device], &request, &outcome);
    }
    if (lab_call(lab, &call, 1))
        return 0;
    for (unsigned i = victim->naddresses; i-- > 0;) {
        if (hit[i])
            memcpy(hit[i], &before[i], sizeof(before[i]));
    }
    return call.dma.value;
}

void run_kernel_pointer(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct lab_page *page = lab_page(lab, LAB_PAGE_SHARED);
    uint64_t honest = lab->guest.page->honest, iova, called;
    struct lab_victim victim;

    (void)n;
    memcpy(lab->truth + (page - lab->arena) * ATTACK_PAGE_BYTES + POINTER_AT, &honest,
           sizeof(honest));
    lab_restore(page);
    iova = map_shared(lab, cell, page);
    if (!iova)
        return;
    victim = neighbour(page, iova, POINTER_AT, ATTACK_POINTER_BYTES);
    lab_attack(lab, cell, &request, &victim, BOTH);
    called = hijack(lab, cell, &victim, page->va + POINTER_AT);
    lab_restore(page);
    lab_check(cell, called == (cell->expected.write_bytes ? ABI_LAB_HIJACKED : ABI_LAB_HONEST),
              "the guest calls through the pointer: expected %s function, observed %s",
              cell->expected.write_bytes ? "the attacker's" : "its own",
              called == ABI_LAB_HIJACKED ? "the attacker's"
              : called == ABI_LAB_HONEST ? "its own"
                                         : "neither");
    unmap(lab, cell, iova);
}

void run_co_location(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct lab_page *page = lab_page(lab, LAB_PAGE_SHARED);
    struct lab_victim victim;
    uint64_t iova;

    (void)n;
    lab_renew(lab, page);
    iova = map_shared(lab, cell, page);
    if (!iova)
        return;
    victim = neighbour(page, iova, DATA_AT, ATTACK_NEIGHBOUR_BYTES);
    lab_attack(lab, cell, &request, &victim, BOTH);
    unmap(lab, cell, iova);
}

void run_alias(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    struct abi_lab_command commands[2] = {
        lab_map_command(lab, cell->device, (unsigned)(page - lab->arena), BOTH),
        lab_map_command(lab, cell->device, (unsigned)(page - lab->arena), BOTH),
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
    unmap(lab, cell, commands[0].dma.iova);
    lab_victim_page(&victim, page);
    if (!rules_untranslated(lab->policy, cell->device)) {
        victim.naddresses = 0;
        request.gate = cell->expected.succeeds ? LAB_OPEN : LAB_SHUT;
    }
    lab_victim_add(&victim, alias, LAB_NOBODY);
    lab_attack(lab, cell, &request, &victim, BOTH);
    /* Where it was revoked with the other one, there is nothing left to unmap. */
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = alias });
    lab_dma(lab, cell->device, ABI_DMA_FLUSH, &(struct abi_dma){ .iova = alias });
}

/* ---- unpinned ------------------------------------------------------------------------------ */

/*
 * What the program's next pages hold is nobody's business; one of them may well be in the
 * very frame that was given away.
 */
static void attack_reused(struct lab *lab, struct lab_cell *cell, uint64_t freed, uint64_t iova,
                          uint64_t fresh_va)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_ANY };
    uint8_t truth[ATTACK_PAGE_BYTES];
    uint64_t victim_gpa = 0;
    struct lab_victim victim = { .truth = truth, .len = ATTACK_PAGE_BYTES, .nplaces = 1 };

    for (unsigned i = 0; i < FRESH_PAGES; i++) {
        uint64_t gpa = lab_guest_gpa(&lab->guest, fresh_va + i * ATTACK_PAGE_BYTES);

        if (gpa && victim_gpa != freed)
            victim_gpa = gpa;
    }
    victim.place[0] = memory_at(lab->memory, victim_gpa, ATTACK_PAGE_BYTES);
    if (!lab_check(cell, victim_gpa && victim.place[0], "expected fresh pages, observed none"))
        return;
    lab_random_fill(lab, truth, sizeof(truth));
    memcpy(victim.place[0], truth, sizeof(truth));
    lab_victim_add(&victim, iova, LAB_NOBODY);
    if (rules_untranslated(lab->policy, cell->device))
        lab_victim_add(&victim, victim_gpa, LAB_NOBODY);
    lab_attack(lab, cell, &request, &victim, BOTH);
}

static struct abi_lab_command pages_command(enum abi_lab_op op, uint64_t va, uint64_t pages)
{
    return (
        struct abi_lab_command){ .op = op, .dma.va = va, .dma.bytes = pages * ATTACK_PAGE_BYTES };
}

void run_unpinned(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct abi_lab_command pages[] = {
        pages_command(ABI_LAB_MAP_PAGE, 0, 1),
        pages_command(ABI_LAB_MAP_PAGE, 0, COVER_PAGES),
        pages_command(ABI_LAB_MAP_PAGE, 0, FRESH_PAGES),
    };
    struct abi_lab_command map = lab_command(cell->device, ABI_DMA_MAP), reuse[3];
    bool copies = rules_bounces(lab->policy, cell->device);
    uint64_t gpa;

    (void)n;
    if (lab_call(lab, pages, 3))
        return;
    gpa = lab_guest_gpa(&lab->guest, pages[0].dma.va);
    map.dma.va = pages[0].dma.va;
    map.dma.bytes = ATTACK_PAGE_BYTES;
    map.dma.rights = BOTH;
    if (lab_call(lab, &map, 1) ||
        !lab_check(cell, !map.result && gpa, "map a fresh page: expected 0, observed %lld",
                   (long long)map.result))
        return;
    if (lab->iommu && !copies && !rules_untranslated(lab->policy, cell->device))
        lab_check(cell,
                  iommu_pinned(lab->iommu, gpa, ATTACK_PAGE_BYTES) ==
                      !rules_lacks(lab->policy, IOMMU_WITHOUT_PIN),
                  "a mapped page: expected the IOMMU %s it, observed the contrary",
                  rules_lacks(lab->policy, IOMMU_WITHOUT_PIN) ? "not to pin" : "to pin");
    /*
     * Frames are given out again last in, first out: those on top of the one that matters
     * are for the stack and other pages that move too.
     */
    reuse[0] = pages_command(ABI_LAB_UNMAP_PAGE, pages[0].dma.va, 1);
    reuse[1] = pages_command(ABI_LAB_UNMAP_PAGE, pages[1].dma.va, COVER_PAGES);
    reuse[2] = pages_command(ABI_LAB_COPY_PAGES, pages[2].dma.va, FRESH_PAGES);
    if (lab_call(lab, reuse, 3))
        return;
    attack_reused(lab, cell, gpa, map.dma.iova, pages[2].dma.va);
    unmap(lab, cell, map.dma.iova);
    pages[2].op = ABI_LAB_UNMAP_PAGE;
    lab_call(lab, &pages[2], 1);
}
