/* Attacks that reach for memory of others while everything is set up. */
#include <string.h>

#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"

#define BOTH             (RULES_READ | RULES_WRITE)
#define SWEEP_PROBES_MAX 1024 /* of RAM, as addresses */
#define SWEEP_NEAR_PAGES 8    /* on both sides of every address that is mapped for somebody */
#define CROSSING_BYTES   64

/* ---- probe-scan ---------------------------------------------------------------------- */

struct sweep {
    struct lab *lab;
    unsigned device;
    uint64_t strays, first_stray; /* answers where nothing is mapped */
};

static void probe(struct sweep *sweep, uint64_t address)
{
    struct lab *lab = sweep->lab;
    uint64_t word = 0;
    const struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct dma_outcome outcome;

    dma_perform(lab->door[sweep->device], &request, &outcome);
    lab->swept[sweep->device]++;
    if (outcome.error || !outcome.done)
        return;
    lab->answered[sweep->device]++;
    for (unsigned i = 0; i < ABI_LAB_ARENA_PAGES; i++) {
        if (!memcmp(&word, lab->arena[i].truth, sizeof(word)))
            lab->seen[sweep->device][i / 64] |= 1ull << i % 64;
    }
    if (lab_gate(lab, sweep->device, address) == LAB_SHUT && !sweep->strays++)
        sweep->first_stray = address;
}

static void sweep_near(struct sweep *sweep, uint64_t iova)
{
    uint64_t page = iova / ATTACK_PAGE_BYTES;
    uint64_t first = page > SWEEP_NEAR_PAGES ? page - SWEEP_NEAR_PAGES : 0;

    for (uint64_t at = first; at <= page + SWEEP_NEAR_PAGES; at++)
        probe(sweep, at * ATTACK_PAGE_BYTES);
}

/* Every address that some device has for a page or its copy in a pool, and what lies near. */
static void sweep_region(struct sweep *sweep, unsigned region)
{
    const struct policy *policy = sweep->lab->policy;

    if (policy->guest.region[region].kind != ABI_REGION_BUFFER)
        return;
    for (unsigned k = 0; k < rules_region_bytes(policy, region) / ATTACK_PAGE_BYTES; k++) {
        struct lab_victim victim;

        lab_victim_region(sweep->lab, &victim, region, k);
        for (unsigned i = 0; i < victim.naddresses; i++) {
            if (victim.owner[i] == LAB_NOBODY)
                continue;
            sweep_near(sweep, victim.address[i]);
            /* A copy may begin in the middle of a page. */
            if (victim.address[i] % ATTACK_PAGE_BYTES)
                probe(sweep, victim.address[i]);
        }
    }
}

static void sweep(struct lab *lab, struct lab_cell *cell)
{
    struct sweep s = { .lab = lab, .device = cell->device };
    uint64_t pages = lab->memory->bytes / ATTACK_PAGE_BYTES;
    uint64_t stride = pages > SWEEP_PROBES_MAX ? pages / SWEEP_PROBES_MAX : 1;

    if (lab->scanned[cell->device])
        return;
    lab->scanned[cell->device] = true;
    for (uint64_t page = 0; page < pages; page += stride)
        probe(&s, page * ATTACK_PAGE_BYTES);
    for (unsigned i = 0; i < ABI_LAB_ARENA_PAGES; i++)
        probe(&s, lab->arena[i].gpa);
    for (unsigned region = 0; region < lab->policy->guest.nregions; region++)
        sweep_region(&s, region);
    lab_check(cell, s.strays == 0,
              "sweep of %llu addresses: expected no answer where nothing is mapped, observed %llu, "
              "the first at 0x%llx",
              (unsigned long long)lab->swept[cell->device], (unsigned long long)s.strays,
              (unsigned long long)s.first_stray);
}

static bool seen(const struct lab *lab, unsigned device, unsigned page)
{
    return lab->seen[device][page / 64] >> page % 64 & 1;
}

/*
 * Memory that is not the program's, filled with canaries for as long as it is attacked.
 * The world stands still, so that nobody misses what was there.
 */
static void attack_elsewhere(struct lab *lab, struct lab_cell *cell, uint64_t gpa)
{
    uint8_t *host = memory_at(lab->memory, gpa, ATTACK_PAGE_BYTES);
    const struct lab_request request = { .device = cell->device, .gate = LAB_SHUT };
    uint8_t before[ATTACK_PAGE_BYTES], truth[ATTACK_PAGE_BYTES];
    struct lab_victim victim = {
        .truth = truth, .len = ATTACK_PAGE_BYTES, .place = { host }, .nplaces = 1
    };

    if (!lab_check(cell, gpa && host, "expected memory at 0x%llx, observed none",
                   (unsigned long long)gpa))
        return;
    memcpy(before, host, sizeof(before));
    lab_random_fill(lab, truth, sizeof(truth));
    memcpy(host, truth, sizeof(truth));
    lab_victim_add(&victim, gpa, LAB_NOBODY);
    for (unsigned d = 0; d < lab->policy->guest.ndevices; d++) {
        uint64_t iova;

        if (lab_iova_of(lab, d, gpa, &iova))
            lab_victim_add(&victim, iova, rules_device(lab->policy, d)->endpoint);
    }
    lab_attack(lab, cell, &request, &victim, BOTH);
    memcpy(host, before, sizeof(before));
}

static void attack_region(struct lab *lab, struct lab_cell *cell, unsigned region, uint32_t wanted,
                          bool claims)
{
    const struct abi_policy_region *r = &lab->policy->guest.region[region];
    const struct lab_request request = { .device = cell->device,
                                         .gate = claims ? LAB_ANY : LAB_SHUT,
                                         .claims = claims };

    for (unsigned k = 0; k < rules_region_bytes(lab->policy, region) / ATTACK_PAGE_BYTES; k++) {
        uint64_t at = k * ATTACK_PAGE_BYTES;
        struct lab_victim victim;

        if (r->kind != ABI_REGION_BUFFER) {
            attack_elsewhere(lab, cell, lab->region_gpa[region] ? lab->region_gpa[region] + at : 0);
            continue;
        }
        lab_victim_region(lab, &victim, region, k);
        lab_attack(lab, cell, &request, &victim, wanted);
    }
}

/*
 * One forbidden access, and what the guest makes of it: its driver is told of exactly this
 * fault, and does to the device what the policy says.
 */
void attack_guests_view(struct lab *lab, unsigned device)
{
    const struct abi_policy_device *d = rules_device(lab->policy, device);
    bool reports = d->fault_action == ABI_FAULT_REPORT, told = false;
    uint64_t word, address = lab_page(lab, LAB_PAGE_SECRET)->gpa, iova = lab->iova[device][0][0];
    struct lab_cell *cell = &lab->guests_view[device];
    const struct dma_request request = {
        .iova = address, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct abi_lab_command faults[ABI_LAB_COMMANDS];
    struct dma_outcome outcome;
    unsigned n;

    if (lab_gate(lab, device, address) != LAB_SHUT)
        return;
    /* What there was before goes first. */
    do {
        for (n = 0; n < ABI_LAB_COMMANDS; n++)
            faults[n] = lab_command(device, ABI_DMA_FAULT);
        if (lab_call(lab, faults, n))
            return;
    } while (!faults[n - 1].result);
    dma_perform(lab->door[device], &request, &outcome);
    for (n = 0; n < 2; n++)
        faults[n] = lab_command(device, ABI_DMA_FAULT);
    if (lab_call(lab, faults, n))
        return;
    told = !faults[0].result && faults[0].dma.endpoint == d->endpoint &&
           faults[0].dma.iova == address && faults[0].dma.rights == RULES_READ;
    lab_check(cell, told && faults[1].result,
              "the guest is told: expected 1 fault of endpoint %u at 0x%llx, observed %s of "
              "endpoint %u at 0x%llx",
              d->endpoint, (unsigned long long)address,
              faults[0].result   ? "none"
              : faults[1].result ? "one"
                                 : "more",
              faults[0].dma.endpoint, (unsigned long long)faults[0].dma.iova);
    if (iova && !rules_bounces(lab->policy, device))
        lab_check(cell, lab_mapped(lab, device, iova) == reports,
                  "after a fault: expected the driver to %s, observed the contrary",
                  reports ? "go on" : "take the device off its domain");
}

void run_probe_scan(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_SHUT };
    struct lab_page *secret = lab_page(lab, LAB_PAGE_SECRET);
    struct lab_victim victim;
    unsigned nregions = lab->policy->guest.nregions, page;

    sweep(lab, cell);
    if (n == nregions + ATTACK_TARGET_KERNEL) {
        uint64_t kernel = lab->guest.record.kernel / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES;

        attack_elsewhere(lab, cell, kernel);
        return;
    }
    if (n == nregions + ATTACK_TARGET_SECRET) {
        lab_victim_page(&victim, secret);
        lab_attack(lab, cell, &request, &victim, BOTH);
        page = (unsigned)(secret - lab->arena);
        lab_merge(cell, &lab->guests_view[cell->device]);
    } else {
        attack_region(lab, cell, n, BOTH, false);
        page = lab->first_page[n];
        if (lab->policy->guest.region[n].kind != ABI_REGION_BUFFER)
            return;
    }
    lab_check(cell, seen(lab, cell->device, page) == (cell->expected.read_bytes > 0),
              "sweep: expected %s the canary, observed that it was%s",
              cell->expected.read_bytes ? "to see" : "not to see",
              seen(lab, cell->device, page) ? "" : " not");
}

/* ---- The same memory, at the addresses of others ---------------------------------------- */

static uint32_t not_its_own(const struct lab *lab, unsigned device, unsigned region)
{
    return BOTH & ~rules_own(lab->policy, device, region);
}

void run_shared_map(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    attack_region(lab, cell, n, not_its_own(lab, cell->device, n), false);
}

void run_requester_spoof(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    attack_region(lab, cell, n, not_its_own(lab, cell->device, n), true);
}

void run_identity_hole(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device, .gate = LAB_SHUT };
    struct lab_victim victim;
    unsigned seen_holes = 0;

    for (unsigned region = 0; region < lab->policy->guest.nregions; region++) {
        if (lab->policy->guest.region[region].kind == ABI_REGION_HOLE && seen_holes++ == n) {
            attack_region(lab, cell, region, BOTH, false);
            return;
        }
    }
    lab_victim_page(&victim, lab_page(lab, LAB_PAGE_SECRET));
    lab_attack(lab, cell, &request, &victim, BOTH);
}

void run_ats(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct lab_request request = { .device = cell->device,
                                         .translated = true,
                                         .gate = cell->expected.succeeds ? LAB_OPEN : LAB_SHUT };
    struct lab_victim victim;

    (void)n;
    lab_victim_page(&victim, lab_page(lab, LAB_PAGE_SECRET));
    lab_attack(lab, cell, &request, &victim, BOTH);
}

/* ---- permission --------------------------------------------------------------------------- */

/* A request that runs out of its mapping: what lies beyond stays untouched, and says so. */
static void cross(struct lab *lab, struct lab_cell *cell, uint64_t iova, enum dma_direction way)
{
    uint64_t end = (iova / ATTACK_PAGE_BYTES + 1) * ATTACK_PAGE_BYTES;
    uint8_t data[CROSSING_BYTES] = { 0 };
    const struct dma_request request = {
        .iova = end - CROSSING_BYTES / 2, .len = CROSSING_BYTES, .direction = way, .data = data
    };
    uint8_t *host = lab_host(lab, cell->device, end - CROSSING_BYTES / 2, CROSSING_BYTES / 2);
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;

    if (lab_mapped(lab, cell->device, end) || !host)
        return;
    if (way == DMA_WRITE)
        memcpy(data, host, CROSSING_BYTES / 2);
    dma_perform(lab->door[cell->device], &request, &outcome);
    lab_faults(lab, &fault);
    lab_check(
        cell, outcome.error && outcome.done <= CROSSING_BYTES / 2 && fault.iova == end,
        "%u bytes across the end of a mapping: expected a fault at 0x%llx, observed error %d, "
        "%llu bytes done, the last fault at 0x%llx",
        CROSSING_BYTES, (unsigned long long)end, -outcome.error, (unsigned long long)outcome.done,
        (unsigned long long)fault.iova);
}

/* The direction that is allowed works; the other one is what the cell is about. */
static void attack_page(struct lab *lab, struct lab_cell *cell, unsigned region, unsigned k,
                        uint64_t iova, uint32_t own)
{
    bool untranslated = rules_untranslated(lab->policy, cell->device);
    bool pool = rules_bounces(lab->policy, cell->device);
    bool unchecked = rules_lacks(lab->policy, IOMMU_WITHOUT_PERMISSION);
    struct lab_request request = {
        .device = cell->device, .iova = iova, .len = ATTACK_PAGE_BYTES, .gate = LAB_OPEN
    };
    struct lab_page *page = &lab->arena[lab->first_page[region] + k];
    struct lab_victim victim;

    lab_victim_page(&victim, page);
    if (own & RULES_READ)
        lab_check(cell, lab_read(lab, cell, &request, page->truth) == ATTACK_PAGE_BYTES,
                  "its own buffer: expected to read it, observed something else");
    if (own & RULES_WRITE)
        lab_write(lab, cell, &request, &victim);
    if (!untranslated)
        cross(lab, cell, iova, own & RULES_READ ? DMA_READ : DMA_WRITE);
    /* A pool is mapped both ways; which way its slots are copied is the driver's doing. */
    request.gate = untranslated || pool || unchecked ? LAB_ANY : LAB_SHUT;
    if (own == RULES_WRITE) {
        uint64_t read = lab_read(lab, cell, &request, page->truth);

        if (!read && untranslated) {
            request.iova = page->gpa;
            read = lab_read(lab, cell, &request, page->truth);
        }
        cell->observed.read_bytes += read;
    } else {
        uint64_t written = lab_write(lab, cell, &request, &victim);

        if (!written && untranslated) {
            request.iova = page->gpa;
            written = lab_write(lab, cell, &request, &victim);
        }
        cell->observed.write_bytes += written;
    }
    lab_conclude(cell);
}

void run_permission(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    const struct abi_policy_device *d = rules_device(lab->policy, cell->device);
    uint32_t own = rules_own(lab->policy, cell->device, n);

    for (unsigned k = 0; k < rules_region_bytes(lab->policy, n) / ATTACK_PAGE_BYTES; k++) {
        for (unsigned use = 0; use < d->nuses; use++) {
            if (d->use[use].region != n || !lab->iova[cell->device][use][k])
                continue;
            attack_page(lab, cell, n, k, lab->iova[cell->device][use][k], own);
            break;
        }
    }
}
