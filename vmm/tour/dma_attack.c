#include "vmm/tour/dma_attack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/hostile/probe.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"

#define UNTOUCHED 0xc5 /* fills the device's buffer before it reads */
#define SPOOFED   0x66 /* what the device writes */

void attack_fault(void *owner, const struct iommu_fault *fault)
{
    struct attack_faults *faults = owner;

    if (faults->n < ATTACK_FAULTS_MAX)
        faults->fault[faults->n] = *fault;
    faults->n++;
}

static struct probe *dma_attack_probe(const struct tour_run *run)
{
    return board_model(run->board, ATTACK_DEVICE, &probe_ops);
}

uint64_t attack_carry_out(struct tour_run *run, const struct attack *attack)
{
    struct probe *probe = dma_attack_probe(run);
    struct dma *dma = board_dma(run->board, ATTACK_DEVICE);
    bool write = attack->flags & ABI_PROBE_FLAG_WRITE;

    memset(probe->state.buffer, write ? SPOOFED : UNTOUCHED, ABI_PROBE_BUFFER_BYTES);
    dma_lock(dma);
    probe->state.address = attack->address;
    probe->state.length = attack->length;
    probe->state.stride = ATTACK_SWEEP_STRIDE;
    probe->state.flags = attack->flags;
    dma_unlock(dma);
    probe_attack(probe, attack->function);
    return probe->state.result;
}

static uint64_t dma_attack_changed(const uint8_t *now, const uint8_t *before, size_t bytes)
{
    uint64_t n = 0;

    for (size_t i = 0; i < bytes; i++)
        n += now[i] != before[i];
    return n;
}

uint64_t attack_known(const struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                      size_t bytes)
{
    const uint8_t *memory = memory_at(view->memory, gpa, bytes);

    return memory ? bytes - dma_attack_changed(dma_attack_probe(run)->state.buffer, memory, bytes)
                  : 0;
}

static void dma_attack_describe_fault(const struct iommu_fault *fault, char *text, size_t bytes)
{
    snprintf(text, bytes, "endpoint %" PRIu32 ", %s of 0x%" PRIx64, fault->endpoint,
             fault->access == IOMMU_READ    ? "read"
             : fault->access == IOMMU_WRITE ? "write"
                                            : "neither read nor write",
             fault->iova);
}

bool attack_expect_blocked(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                           struct attack_faults *faults, const struct attack *attack)
{
    uint64_t got_through = attack->faults_at - attack->address, exposed = 0;
    size_t before = faults->n;
    uint8_t *page = memory_at(view->memory, gpa, ABI_PAGE_BYTES);
    uint8_t copy[ABI_PAGE_BYTES], untouched[ABI_PROBE_BUFFER_BYTES];
    char expected[TOUR_TEXT_BYTES], observed[TOUR_TEXT_BYTES] = "no record";
    const struct iommu_fault fault = {
        .endpoint = ATTACK_ENDPOINT,
        .access = attack->flags & ABI_PROBE_FLAG_WRITE ? IOMMU_WRITE : IOMMU_READ,
        .iova = attack->faults_at,
    };

    if (!page) {
        check_true(run, false, "RAM", "none", "%s: what is attacked", attack->name);
        return false;
    }
    memcpy(copy, page, sizeof(copy));
    memset(untouched, UNTOUCHED, sizeof(untouched));
    check_equal(run, got_through, attack_carry_out(run, attack), "%s: bytes that got through",
                attack->name);
    check_equal(run, EFAULT, dma_attack_probe(run)->state.error, "%s: error that the device saw",
                attack->name);
    if (fault.access == IOMMU_READ)
        exposed = dma_attack_changed(dma_attack_probe(run)->state.buffer + got_through, untouched,
                                     attack->length - got_through);
    check_equal(run, 0, exposed, "%s: bytes that the device learnt", attack->name);
    check_equal(run, 0, dma_attack_changed(page, copy, sizeof(copy)), "%s: bytes changed in memory",
                attack->name);
    memcpy(page, copy, sizeof(copy));
    dma_attack_describe_fault(&fault, expected, sizeof(expected));
    if (faults->n == before + 1 && before < ATTACK_FAULTS_MAX)
        dma_attack_describe_fault(&faults->fault[before], observed, sizeof(observed));
    else if (faults->n != before)
        snprintf(observed, sizeof(observed), "%zu records", faults->n - before);
    check_true(run, !strcmp(expected, observed), expected, observed, "%s: the fault's record",
               attack->name);
    return !strcmp(expected, observed);
}

void attack_expect_allowed(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                           struct attack_faults *faults, const struct attack *attack)
{
    size_t before = faults->n;
    uint8_t *memory = memory_at(view->memory, gpa, attack->length);
    uint8_t copy[ABI_PROBE_BUFFER_BYTES];

    if (!memory || attack->length > sizeof(copy)) {
        check_true(run, false, "RAM", "none", "%s: what is accessed", attack->name);
        return;
    }
    memcpy(copy, memory, attack->length);
    check_equal(run, attack->length, attack_carry_out(run, attack), "%s: bytes that got through",
                attack->name);
    check_equal(run, attack->length, attack_known(run, view, gpa, attack->length),
                "%s: bytes the same in memory and in the device", attack->name);
    check_equal(run, 0, faults->n - before, "%s: faults", attack->name);
    memcpy(memory, copy, attack->length);
}
