/* DMA to another device's registers. */
#include <linux/virtio_iommu.h>

#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define VIRTIO_MAGIC   0x74726976u
#define LIVENESS_VALUE 0x600dcafeu

/* Another device, one with a register that may be written if there is one; -1: alone. */
static int peer_choose(const struct policy *policy, unsigned device)
{
    int peer = -1;

    for (unsigned other = 0; other < policy->guest.ndevices; other++) {
        if (other == device)
            continue;
        if (rules_device(policy, other)->kind == ABI_DEVICE_PROBE)
            return (int)other;
        peer = (int)other;
    }
    return peer;
}

static bool peer_expect(const struct policy *policy, unsigned device, unsigned n,
                        struct attack_plan *plan)
{
    bool untranslated = rules_untranslated(policy, device);
    bool mapped = rules_disabled(policy, IOMMU_CHECK_PEER);
    int peer = peer_choose(policy, device);
    uint32_t rights = untranslated || mapped ? RULES_BOTH : 0;

    if (n)
        return false;
    if (peer < 0) {
        expect_none(plan, "registers", "there is no other device");
        return true;
    }
    /* Of a disk's registers none is worth writing. */
    if (rules_device(policy, (unsigned)peer)->kind != ABI_DEVICE_PROBE)
        rights &= RULES_READ;
    expect_effect(plan, rules_device(policy, (unsigned)peer)->name, rights, sizeof(uint32_t),
                  untranslated ? rules_why_untranslated(policy, device)
                  : mapped     ? "lacks peer: device registers may be mapped"
                               : "addresses translate to RAM only");
    return true;
}

static uint64_t peer_registers(const struct harness *harness, unsigned device)
{
    return ABI_MMIO_GPA + (device + (harness->iommu ? 1 : 0)) * ABI_MMIO_BYTES;
}

static void peer_access(struct harness *harness, struct matrix_cell *cell, unsigned peer,
                        uint64_t address)
{
    bool is_probe = rules_device(harness->policy, peer)->kind == ABI_DEVICE_PROBE;
    uint32_t expected = is_probe ? ABI_PROBE_ID_VALUE : VIRTIO_MAGIC, word = 0;
    struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct abi_dma liveness = { .iova = ABI_PROBE_LIVENESS, .bytes = 4 };
    struct dma_outcome outcome;
    uint32_t before;

    dma_perform(harness->dma[cell->device], &request, &outcome);
    if (outcome.done == sizeof(word) && word == expected)
        cell->observed.read_bytes = sizeof(word);
    if (!is_probe)
        return;
    /* What its own driver reads there tells whether the write arrived. */
    if (harness_dma(harness, peer, ABI_DMA_REGISTER_READ, &liveness))
        return;
    before = (uint32_t)liveness.value;
    word = LIVENESS_VALUE + cell->device;
    request.iova = address + ABI_PROBE_LIVENESS;
    request.direction = DMA_WRITE;
    dma_perform(harness->dma[cell->device], &request, &outcome);
    if (harness_dma(harness, peer, ABI_DMA_REGISTER_READ, &liveness))
        return;
    if ((uint32_t)liveness.value == ~word && before != ~word)
        cell->observed.write_bytes = sizeof(word);
    liveness.value = ~before;
    harness_dma(harness, peer, ABI_DMA_REGISTER_WRITE, &liveness);
}

static void peer_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    int peer = peer_choose(harness->policy, cell->device);
    bool untranslated = rules_untranslated(harness->policy, cell->device);
    uint64_t gpa = peer_registers(harness, (unsigned)peer), address = gpa;
    struct abi_dma map = { .iova = HARNESS_HIGH_IOVA,
                           .bytes = ABI_MMIO_BYTES,
                           .gpa = gpa,
                           .rights = RULES_BOTH | IOMMU_MMIO };
    int64_t result;
    bool mapped = false;

    (void)n;
    if (!untranslated) {
        /* By its plain address first: nothing maps that. */
        uint32_t word;
        const struct dma_request request = {
            .iova = gpa, .len = sizeof(word), .direction = DMA_READ, .data = &word
        };
        struct dma_outcome outcome;

        dma_perform(harness->dma[cell->device], &request, &outcome);
        harness_check(cell, outcome.error < 0 && outcome.done == 0,
                      "at the registers' own address: expected an error, observed %d, %llu bytes",
                      -outcome.error, (unsigned long long)outcome.done);
        harness_settle(harness);
        /* Then with a confused operating system's help. */
        result = harness_dma(harness, cell->device, ABI_DMA_RAW_MAP, &map);
        mapped = !result && map.value == VIRTIO_IOMMU_S_OK;
        harness_check(cell, mapped == cell->expected.succeeds,
                      "map the peer's registers: expected %s, observed result %lld, status %llu",
                      cell->expected.succeeds ? "OK" : "a refusal", (long long)result,
                      (unsigned long long)map.value);
        address = HARNESS_HIGH_IOVA;
    }
    peer_access(harness, cell, (unsigned)peer, address);
    harness_conclude(cell);
    map.last = HARNESS_HIGH_IOVA + ABI_MMIO_BYTES - 1;
    if (mapped)
        harness_dma(harness, cell->device, ABI_DMA_RAW_UNMAP, &map);
}

const struct attack attack_peer = {
    .name = "peer",
    .mechanism = "DMA to another device's registers",
    .stopped_by = "translate to RAM only",
    .source = "PCI Express, 6.12 (ACS)",
    .expect = peer_expect,
    .run = peer_run,
};
