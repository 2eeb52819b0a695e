/* Attacks with messages, on other devices' registers, with numbers at their limits. */
#include <errno.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"

#define BOTH           (RULES_READ | RULES_WRITE)
#define FLOOD          4096             /* more than any policy keeps records */
#define MAPPINGS_MAX   ((1u << 24) + 1) /* more than any quota of a policy */
#define STRAY_MS       2
#define STRAY_TRIES    500
#define VIRTIO_MAGIC   0x74726976u
#define STATUS_OK      0
#define STATUS_RANGE   5
#define LIVENESS_VALUE 0x600dcafeu

/* ---- msi-spoof --------------------------------------------------------------------------- */

static int send_message(struct lab *lab, unsigned device, unsigned vector,
                        struct dma_outcome *outcome)
{
    uint32_t data = vector;
    const struct dma_request request = {
        .iova = IOMMU_MSI_FIRST, .len = sizeof(data), .direction = DMA_WRITE, .data = &data
    };

    dma_perform(lab->door[device], &request, outcome);
    return outcome->error;
}

/*
 * Interrupts by stray vectors that came to the guest since it had counted so many; the last
 * one. One that is expected has its time to arrive.
 */
static uint64_t strays(struct lab *lab, uint64_t before, bool expected, uint64_t *vector)
{
    uint64_t came = 0;

    for (unsigned i = 0; i < (expected ? STRAY_TRIES : 1) && !came; i++) {
        struct abi_lab_command nothing = { .op = ABI_LAB_WAIT, .operation = STRAY_MS };

        if (lab_call(lab, &nothing, 1) || lab_guest_look(&lab->guest))
            return 0;
        came = lab->guest.view.kernel.stray_interrupts - before;
    }
    *vector = lab->guest.view.kernel.stray_vector;
    return came;
}

static unsigned allowed_vector(const struct policy *policy, unsigned device)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        if (policy->device[device].vectors[vector / 64] >> (vector % 64) & 1)
            return vector;
    }
    return 0;
}

void run_msi_spoof(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    unsigned vector = attack_forbidden_vector(lab->policy, cell->device);
    unsigned allowed = allowed_vector(lab->policy, cell->device);
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;
    uint64_t came, last = 0, before, counted;

    (void)n;
    if (lab_guest_look(&lab->guest))
        return;
    before = lab_faults(lab, NULL);
    counted = lab->guest.view.kernel.stray_interrupts;
    send_message(lab, cell->device, vector, &outcome);
    if (!cell->expected.succeeds) {
        lab_check(cell, outcome.error < 0, "the device must see an error, observed %d",
                  -outcome.error);
        lab_check(cell,
                  lab_faults(lab, &fault) == before + 1 && fault.iova == IOMMU_MSI_FIRST &&
                      fault.access == IOMMU_WRITE &&
                      fault.endpoint == rules_device(lab->policy, cell->device)->endpoint,
                  "fault record: expected 1 write at 0x%llx, observed %llu, the last at 0x%llx",
                  IOMMU_MSI_FIRST, (unsigned long long)(lab_faults(lab, NULL) - before),
                  (unsigned long long)fault.iova);
    }
    /* Nor can the window be covered with memory, for the writes to vanish in. */
    if (!rules_untranslated(lab->policy, cell->device)) {
        struct abi_dma map = { .iova = IOMMU_MSI_FIRST,
                               .bytes = ATTACK_PAGE_BYTES,
                               .gpa = lab_page(lab, LAB_PAGE_SCRATCH)->gpa,
                               .rights = BOTH };
        int64_t result;

        lab_settle(lab);
        result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
        lab_check(cell, !result && map.value != STATUS_OK,
                  "map the interrupt window: expected a refusal, observed %lld, status %llu",
                  (long long)result, (unsigned long long)map.value);
    }
    came = strays(lab, counted, cell->expected.succeeds, &last);
    cell->observed.succeeds = came > 0 && last == vector;
    /* What it may signal, it can: the window is open for that. */
    if (allowed >= 0x50 && allowed < 0xf0) {
        lab_settle(lab);
        lab_guest_look(&lab->guest);
        counted = lab->guest.view.kernel.stray_interrupts;
        send_message(lab, cell->device, allowed, &outcome);
        came = strays(lab, counted, true, &last);
        lab_check(cell, !outcome.error && came == 1 && last == allowed,
                  "its own vector 0x%x: expected 1 interrupt, observed error %d, %llu, the last by "
                  "vector 0x%llx",
                  allowed, -outcome.error, (unsigned long long)came, (unsigned long long)last);
    }
}

/* ---- peer ----------------------------------------------------------------------------------- */

static uint64_t registers_of(const struct lab *lab, unsigned device)
{
    return ABI_MMIO_GPA + (device + (lab->iommu ? 1 : 0)) * ABI_MMIO_BYTES;
}

static void access_peer(struct lab *lab, struct lab_cell *cell, unsigned peer, uint64_t address)
{
    bool is_probe = rules_device(lab->policy, peer)->kind == ABI_DEVICE_PROBE;
    uint32_t expected = is_probe ? ABI_PROBE_ID_VALUE : VIRTIO_MAGIC, word = 0;
    struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct abi_dma liveness = { .iova = ABI_PROBE_LIVENESS, .bytes = 4 };
    struct dma_outcome outcome;
    uint32_t before;

    dma_perform(lab->door[cell->device], &request, &outcome);
    if (outcome.done == sizeof(word) && word == expected)
        cell->observed.read_bytes = sizeof(word);
    if (!is_probe)
        return;
    /* What its own driver reads there tells whether the write arrived. */
    if (lab_dma(lab, peer, ABI_DMA_REGISTER_READ, &liveness))
        return;
    before = (uint32_t)liveness.value;
    word = LIVENESS_VALUE + cell->device;
    request.iova = address + ABI_PROBE_LIVENESS;
    request.direction = DMA_WRITE;
    dma_perform(lab->door[cell->device], &request, &outcome);
    if (lab_dma(lab, peer, ABI_DMA_REGISTER_READ, &liveness))
        return;
    if ((uint32_t)liveness.value == ~word && before != ~word)
        cell->observed.write_bytes = sizeof(word);
    liveness.value = ~before;
    lab_dma(lab, peer, ABI_DMA_REGISTER_WRITE, &liveness);
}

void run_peer(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    int peer = attack_peer(lab->policy, cell->device);
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    uint64_t gpa = registers_of(lab, (unsigned)peer), address = gpa;
    struct abi_dma map = {
        .iova = LAB_HIGH_IOVA, .bytes = ABI_MMIO_BYTES, .gpa = gpa, .rights = BOTH | IOMMU_MMIO
    };
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

        dma_perform(lab->door[cell->device], &request, &outcome);
        lab_check(cell, outcome.error < 0 && outcome.done == 0,
                  "at the registers' own address: expected an error, observed %d, %llu bytes",
                  -outcome.error, (unsigned long long)outcome.done);
        lab_settle(lab);
        /* Then with a confused operating system's help. */
        result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
        mapped = !result && map.value == STATUS_OK;
        lab_check(cell, mapped == cell->expected.succeeds,
                  "map the peer's registers: expected %s, observed result %lld, status %llu",
                  cell->expected.succeeds ? "OK" : "a refusal", (long long)result,
                  (unsigned long long)map.value);
        address = LAB_HIGH_IOVA;
    }
    access_peer(lab, cell, (unsigned)peer, address);
    lab_conclude(cell);
    map.last = LAB_HIGH_IOVA + ABI_MMIO_BYTES - 1;
    if (mapped)
        lab_dma(lab, cell->device, ABI_DMA_RAW_UNMAP, &map);
}

/* ---- arithmetic --------------------------------------------------------------------------------
 */

/* A mapping that cannot be: refused, and nothing of it is there. */
static void map_wildly(struct lab *lab, struct lab_cell *cell, uint64_t first, uint64_t last,
                       uint64_t gpa)
{
    struct abi_dma map = { .iova = first, .last = last, .gpa = gpa, .rights = BOTH };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);
    const uint64_t points[] = { first, last / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES,
                                LAB_HIGH_IOVA };

    lab_check(cell, result == 0 && map.value != STATUS_OK,
              "map 0x%llx to 0x%llx at 0x%llx: expected a refusal, observed result %lld, status "
              "%llu",
              (unsigned long long)first, (unsigned long long)last, (unsigned long long)gpa,
              (long long)result, (unsigned long long)map.value);
    for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        uint64_t word = 0;
        const struct dma_request request = {
            .iova = points[i], .len = sizeof(word), .direction = DMA_READ, .data = &word
        };
        struct dma_outcome outcome;

        dma_perform(lab->door[cell->device], &request, &outcome);
        if (!outcome.error)
            cell->observed.read_bytes = sizeof(word);
    }
}

/* Half of a mapping is unmapped: all of it stays, or none of it would be known to be there. */
static void unmap_a_part(struct lab *lab, struct lab_cell *cell)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    uint64_t two_pages = page->gpa / (2 * ATTACK_PAGE_BYTES) * (2 * ATTACK_PAGE_BYTES);
    struct abi_dma map = { .iova = LAB_HIGH_IOVA,
                           .last = LAB_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1,
                           .gpa = two_pages,
                           .rights = BOTH };
    int64_t result = lab_dma(lab, cell->device, ABI_DMA_RAW_MAP, &map);

    lab_check(cell, !result && map.value == STATUS_OK,
              "map two pages: expected OK, observed %lld, status %llu", (long long)result,
              (unsigned long long)map.value);
    map.last = LAB_HIGH_IOVA + ATTACK_PAGE_BYTES - 1;
    result = lab_dma(lab, cell->device, ABI_DMA_RAW_UNMAP, &map);
    lab_check(cell, !result && map.value == STATUS_RANGE,
              "unmap one of them: expected status %d, observed %lld, status %llu", STATUS_RANGE,
              (long long)result, (unsigned long long)map.value);
    lab_check(cell,
              lab_mapped(lab, cell->device, LAB_HIGH_IOVA) &&
                  lab_mapped(lab, cell->device, LAB_HIGH_IOVA + ATTACK_PAGE_BYTES),
              "after that: expected both pages to be mapped, observed that one is not");
    map.last = LAB_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1;
    lab_dma(lab, cell->device, ABI_DMA_RAW_UNMAP, &map);
}

/* A request whose end is past 2^64: what comes after is not what lies at 0. */
static void request_wraps(struct lab *lab, struct lab_cell *cell)
{
    uint8_t data[16], *zero = memory_at(lab->memory, 0, 8), before[8];
    const struct dma_request request = {
        .iova = 0ull - 8, .len = sizeof(data), .direction = DMA_READ, .data = data
    };
    struct dma_outcome outcome;

    memcpy(before, zero, sizeof(before));
    lab_random_fill(lab, zero, sizeof(before));
    for (unsigned i = 0; i < 8; i++)
        data[8 + i] = (uint8_t)~zero[i];
    dma_perform(lab->door[cell->device], &request, &outcome);
    if (!memcmp(data + 8, zero, 8))
        cell->observed.read_bytes = 8;
    memcpy(zero, before, sizeof(before));
    lab_check(cell, outcome.error < 0, "the device must see an error, observed %d", -outcome.error);
}

void run_arithmetic(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    uint64_t last = ~0ull;

    switch (n) {
    case 0: map_wildly(lab, cell, LAB_HIGH_IOVA, last, 0); break;
    case 1:
        map_wildly(lab, cell, LAB_HIGH_IOVA, LAB_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1,
                   0ull - ATTACK_PAGE_BYTES);
        lab_settle(lab);
        map_wildly(lab, cell, LAB_HIGH_IOVA, LAB_HIGH_IOVA + 2 * ATTACK_PAGE_BYTES - 1,
                   (lab->memory->bytes - ATTACK_PAGE_BYTES));
        break;
    case 2: unmap_a_part(lab, cell); break;
    default: request_wraps(lab, cell); break;
    }
    lab_conclude(cell);
}

/* ---- exhaustion
 * ----------------------------------------------------------------------------------- */

/* Every mapping that the unit will give this device's domain. */
static uint64_t gorge(struct lab *lab, unsigned device, int *refusal)
{
    uint32_t domain = rules_device(lab->policy, device)->domain;
    uint64_t gpa = lab_page(lab, LAB_PAGE_SCRATCH)->gpa, count = 0;

    *refusal = 0;
    while (count < MAPPINGS_MAX && !*refusal) {
        uint64_t at = LAB_HIGH_IOVA + count * 2 * ATTACK_PAGE_BYTES;

        *refusal = iommu_map(lab->iommu, domain, at, at + ATTACK_PAGE_BYTES - 1, gpa, IOMMU_READ);
        count += !*refusal;
    }
    return count;
}

static void starve(struct lab *lab, struct lab_cell *cell)
{
    unsigned other = (unsigned)attack_starved(lab->policy, cell->device);
    uint32_t domain = rules_device(lab->policy, cell->device)->domain;
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH2);
    struct abi_dma map = { .rights = BOTH,
                           .iova = 2 * LAB_HIGH_IOVA,
                           .last = 2 * LAB_HIGH_IOVA + ATTACK_PAGE_BYTES - 1,
                           .gpa = page->gpa };
    int refusal;
    uint64_t count = gorge(lab, cell->device, &refusal);
    int64_t result;

    lab_check(cell, refusal == -ENOMEM,
              "mappings without end: expected a refusal, observed %d after %llu", -refusal,
              (unsigned long long)count);
    result = lab_dma(lab, other, ABI_DMA_RAW_MAP, &map);
    cell->observed.succeeds = result != 0 || map.value != STATUS_OK;
    if (count)
        iommu_unmap(lab->iommu, domain, LAB_HIGH_IOVA,
                    LAB_HIGH_IOVA + count * 2 * ATTACK_PAGE_BYTES - 1);
    if (!cell->observed.succeeds)
        lab_dma(lab, other, ABI_DMA_RAW_UNMAP, &map);
}

static void flood(struct lab *lab, struct lab_cell *cell)
{
    struct iommu_counts before, after;
    uint64_t seen = lab_faults(lab, NULL), word;
    struct dma_outcome outcome;

    iommu_count(lab->iommu, &before);
    for (unsigned i = 0; i < FLOOD; i++) {
        const struct dma_request request = { .iova = LAB_HIGH_IOVA + i * ATTACK_PAGE_BYTES,
                                             .len = sizeof(word),
                                             .direction = DMA_READ,
                                             .data = &word };

        dma_perform(lab->door[cell->device], &request, &outcome);
    }
    iommu_count(lab->iommu, &after);
    lab_check(cell, lab_faults(lab, NULL) - seen == FLOOD && after.faults - before.faults == FLOOD,
              "a flood: expected %u faults counted, observed %llu", FLOOD,
              (unsigned long long)(after.faults - before.faults));
    lab_check(cell, after.faults_dropped > before.faults_dropped,
              "a flood: expected records to be dropped and counted, observed %llu drops",
              (unsigned long long)(after.faults_dropped - before.faults_dropped));
    /* And the guest has to live with it. */
    lab_settle(lab);
    cell->observed.succeeds = lab->guest.failure[0] != 0;
}

void run_exhaustion(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    if (n == 0)
        starve(lab, cell);
    else
        flood(lab, cell);
}
