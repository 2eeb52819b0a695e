/* The device sweeps RAM and its address space, and tries to reach what it finds. */
#include <string.h>

#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/region.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

#define SWEEP_PROBES_MAX 1024 /* of RAM, as addresses */
#define SWEEP_NEAR_PAGES 8    /* on both sides of every address that is mapped for a device */

/* Targets after the policy's regions. */
enum probe_scan_target {
    TARGET_KERNEL,
    TARGET_SECRET,
};

static bool probe_scan_expect(const struct policy *policy, unsigned device, unsigned n,
                              struct attack_plan *plan)
{
    unsigned nregions = policy->guest.nregions;
    const struct abi_policy_region *region = &policy->guest.region[n];
    uint32_t all = rules_untranslated(policy, device) ? RULES_BOTH : 0;
    const char *because = all ? rules_why_untranslated(policy, device)
                              : "deny by default: nothing maps it";

    if (n >= nregions + 2)
        return false;
    if (n == nregions + TARGET_KERNEL)
        expect_effect(plan, "kernel", all, ATTACK_PAGE_BYTES, because);
    else if (n == nregions + TARGET_SECRET)
        expect_effect(plan, "secret", all, ATTACK_PAGE_BYTES, because);
    else if (region->kind == ABI_REGION_RESERVED_IOVA)
        expect_none(plan, region->name, "there is no memory that it names");
    else if (rules_own(policy, device, n))
        expect_none(plan, region->name, "the device's own");
    else
        expect_region(policy, device, n, RULES_BOTH, plan);
    return true;
}

struct probe_scan_sweep {
    struct harness *harness;
    unsigned device;
    uint64_t strays, first_stray; /* answers where nothing is mapped */
};

static void probe_scan_probe(struct probe_scan_sweep *sweep, uint64_t address)
{
    struct harness *harness = sweep->harness;
    uint64_t word = 0;
    const struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct dma_outcome outcome;

    dma_perform(harness->dma[sweep->device], &request, &outcome);
    harness->swept[sweep->device]++;
    if (outcome.error || !outcome.done)
        return;
    harness->answered[sweep->device]++;
    for (unsigned i = 0; i < ABI_HARNESS_TEST_PAGES; i++) {
        if (!memcmp(&word, harness->test_pages[i].expected_bytes, sizeof(word)))
            harness->seen[sweep->device][i / 64] |= 1ull << i % 64;
    }
    if (harness_expected(harness, sweep->device, address) == HARNESS_EXPECT_DENY &&
        !sweep->strays++)
        sweep->first_stray = address;
}

static void probe_scan_sweep_near(struct probe_scan_sweep *sweep, uint64_t iova)
{
    uint64_t page = iova / ATTACK_PAGE_BYTES;
    uint64_t first = page > SWEEP_NEAR_PAGES ? page - SWEEP_NEAR_PAGES : 0;

    for (uint64_t at = first; at <= page + SWEEP_NEAR_PAGES; at++)
        probe_scan_probe(sweep, at * ATTACK_PAGE_BYTES);
}

/* Every address that some device has for a page or its copy in a pool, and what lies near. */
static void probe_scan_sweep_region(struct probe_scan_sweep *sweep, unsigned region)
{
    const struct policy *policy = sweep->harness->policy;

    if (policy->guest.region[region].kind != ABI_REGION_BUFFER)
        return;
    for (unsigned k = 0; k < rules_region_bytes(policy, region) / ATTACK_PAGE_BYTES; k++) {
        struct harness_victim victim;

        harness_victim_region(sweep->harness, &victim, region, k);
        for (unsigned i = 0; i < victim.naddresses; i++) {
            if (victim.owner[i] == HARNESS_NOBODY)
                continue;
            probe_scan_sweep_near(sweep, victim.address[i]);
            /* A copy may begin in the middle of a page. */
            if (victim.address[i] % ATTACK_PAGE_BYTES)
                probe_scan_probe(sweep, victim.address[i]);
        }
    }
}

static void probe_scan_sweep(struct harness *harness, struct matrix_cell *cell)
{
    struct probe_scan_sweep s = { .harness = harness, .device = cell->device };
    uint64_t pages = harness->memory->bytes / ATTACK_PAGE_BYTES;
    uint64_t stride = pages > SWEEP_PROBES_MAX ? pages / SWEEP_PROBES_MAX : 1;

    if (harness->scanned[cell->device])
        return;
    harness->scanned[cell->device] = true;
    for (uint64_t page = 0; page < pages; page += stride)
        probe_scan_probe(&s, page * ATTACK_PAGE_BYTES);
    for (unsigned i = 0; i < ABI_HARNESS_TEST_PAGES; i++)
        probe_scan_probe(&s, harness->test_pages[i].gpa);
    for (unsigned region = 0; region < harness->policy->guest.nregions; region++)
        probe_scan_sweep_region(&s, region);
    harness_check(
        cell, s.strays == 0,
        "sweep of %llu addresses: expected no answer where nothing is mapped, observed %llu, "
        "the first at 0x%llx",
        (unsigned long long)harness->swept[cell->device], (unsigned long long)s.strays,
        (unsigned long long)s.first_stray);
}

static bool probe_scan_seen(const struct harness *harness, unsigned device, unsigned page)
{
    return harness->seen[device][page / 64] >> page % 64 & 1;
}

/*
 * One forbidden access, and what the guest makes of it: its driver is told of exactly this
 * fault, and does to the device what the policy says.
 */
static void probe_scan_guests_view(struct harness *harness, unsigned device)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);
    bool reports = d->fault_action == ABI_FAULT_REPORT, told = false;
    uint64_t word, address = harness_page(harness, HARNESS_PAGE_SECRET)->gpa,
                   iova = harness->iova[device][0][0];
    struct matrix_cell *cell = &harness->guests_view[device];
    const struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct abi_harness_command faults[ABI_HARNESS_COMMANDS];
    struct dma_outcome outcome;
    unsigned n;

    if (harness_expected(harness, device, address) != HARNESS_EXPECT_DENY)
        return;
    /* What there was before goes first. */
    do {
        for (n = 0; n < ABI_HARNESS_COMMANDS; n++)
            faults[n] = harness_command(device, ABI_DMA_FAULT);
        if (harness_call(harness, faults, n))
            return;
    } while (!faults[n - 1].result);
    dma_perform(harness->dma[device], &request, &outcome);
    for (n = 0; n < 2; n++)
        faults[n] = harness_command(device, ABI_DMA_FAULT);
    if (harness_call(harness, faults, n))
        return;
    told = !faults[0].result && faults[0].dma.endpoint == d->endpoint &&
           faults[0].dma.iova == address && faults[0].dma.rights == RULES_READ;
    harness_check(cell, told && faults[1].result,
                  "the guest is told: expected 1 fault of endpoint %u at 0x%llx, observed %s of "
                  "endpoint %u at 0x%llx",
                  d->endpoint, (unsigned long long)address,
                  faults[0].result   ? "none"
                  : faults[1].result ? "one"
                                     : "more",
                  faults[0].dma.endpoint, (unsigned long long)faults[0].dma.iova);
    if (iova && !rules_bounces(harness->policy, device))
        harness_check(cell, harness_mapped(harness, device, iova) == reports,
                      "after a fault: expected the driver to %s, observed the contrary",
                      reports ? "go on" : "take the device off its domain");
}

/* Here, because the guest has not been told of many faults yet. */
static void probe_scan_prepare(struct harness *harness)
{
    for (unsigned device = 0; device < harness->policy->guest.ndevices; device++)
        probe_scan_guests_view(harness, device);
}

static void probe_scan_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    const struct harness_request request = { .device = cell->device,
                                             .expect = HARNESS_EXPECT_DENY };
    struct harness_page *secret = harness_page(harness, HARNESS_PAGE_SECRET);
    struct harness_victim victim;
    unsigned nregions = harness->policy->guest.nregions, page;

    probe_scan_sweep(harness, cell);
    if (n == nregions + TARGET_KERNEL) {
        uint64_t kernel = harness->guest.program.record.kernel / ATTACK_PAGE_BYTES *
                          ATTACK_PAGE_BYTES;

        region_attack_elsewhere(harness, cell, kernel);
        return;
    }
    if (n == nregions + TARGET_SECRET) {
        harness_victim_page(&victim, secret);
        harness_attack(harness, cell, &request, &victim, RULES_BOTH);
        page = (unsigned)(secret - harness->test_pages);
        harness_merge(cell, &harness->guests_view[cell->device]);
    } else {
        region_attack(harness, cell, n, RULES_BOTH, false);
        page = harness->first_page[n];
        if (harness->policy->guest.region[n].kind != ABI_REGION_BUFFER)
            return;
    }
    harness_check(cell,
                  probe_scan_seen(harness, cell->device, page) == (cell->expected.read_bytes > 0),
                  "sweep: expected %s the canary, observed that it was%s",
                  cell->expected.read_bytes ? "to see" : "not to see",
                  probe_scan_seen(harness, cell->device, page) ? "" : " not");
}

const struct attack attack_probe_scan = {
    .name = "probe-scan",
    .mechanism = "the device sweeps RAM and its address space",
    .stopped_by = "deny by default; nothing reachable while unattached",
    .source = "Thunderclap, NDSS'19",
    .expect = probe_scan_expect,
    .run = probe_scan_run,
    .prepare = probe_scan_prepare,
};
