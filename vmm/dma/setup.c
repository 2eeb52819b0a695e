#include "vmm/dma/setup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi/syscall.h"
#include "vmm/machine/memory.h"

#define SET_UP_TRIES 5
#define EVENTS       32 /* buffers of the guest's queue for faults (guest/kernel/dma/viommu.c) */

/* ---- Calls ---------------------------------------------------------------------- */

int harness_call(struct harness *harness, struct abi_harness_command *commands, unsigned n)
{
    int err = harness_guest_post(&harness->guest, commands, n);

    if (!err)
        err = harness_guest_collect(&harness->guest, commands, n, HARNESS_CALL_MS);
    if (err == -ETIMEDOUT && !harness->guest.program.failure[0])
        snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                 "the guest's program did not come back from operation %u of %u within %d ms",
                 commands[0].operation, commands[0].op, HARNESS_CALL_MS);
    return err;
}

struct abi_harness_command harness_command(unsigned device, enum abi_dma_op op)
{
    return (
        struct abi_harness_command){ .op = ABI_HARNESS_DMA, .operation = op, .dma.device = device };
}

int64_t harness_dma(struct harness *harness, unsigned device, enum abi_dma_op op,
                    struct abi_dma *dma)
{
    struct abi_harness_command command = harness_command(device, op);
    int err;

    command.dma = *dma;
    command.dma.device = device;
    err = harness_call(harness, &command, 1);
    *dma = command.dma;
    return err ? -ESHUTDOWN : command.result;
}

struct abi_harness_command harness_map_command(const struct harness *harness, unsigned device,
                                               unsigned page, uint32_t rights)
{
    struct abi_harness_command command = harness_command(device, ABI_DMA_MAP);

    command.dma.va = harness->test_pages[page].va;
    command.dma.bytes = ATTACK_PAGE_BYTES;
    command.dma.rights = rights;
    return command;
}

struct harness_page *harness_page(struct harness *harness, enum harness_page_use use)
{
    return &harness->test_pages[harness->first_use + use];
}

/* ---- Canaries -------------------------------------------------------------------- */

void harness_restore(struct harness_page *page)
{
    memcpy(page->host, page->expected_bytes, ATTACK_PAGE_BYTES);
}

void harness_renew(struct harness *harness, struct harness_page *page)
{
    harness_random_fill(harness,
                        harness->expected_bytes + (page - harness->test_pages) * ATTACK_PAGE_BYTES,
                        ATTACK_PAGE_BYTES);
    harness_restore(page);
}

unsigned harness_verify(struct harness *harness)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < ABI_HARNESS_TEST_PAGES; i++) {
        if (memcmp(harness->test_pages[i].host, harness->test_pages[i].expected_bytes,
                   ATTACK_PAGE_BYTES)) {
            wrong++;
            harness_restore(&harness->test_pages[i]);
        }
    }
    return wrong;
}

/* Where the kernel has the policy's regions; it maps them into the program as well. */
static int setup_find_regions(struct harness *harness, uint64_t va[ABI_POLICY_REGIONS_MAX])
{
    unsigned n = harness->policy->guest.nregions;
    struct abi_harness_command commands[ABI_POLICY_REGIONS_MAX];
    int err;

    for (unsigned region = 0; region < n; region++)
        commands[region] = harness_command(region, ABI_DMA_REGION);
    err = n ? harness_call(harness, commands, n) : 0;
    for (unsigned region = 0; region < n && !err; region++) {
        va[region] = commands[region].dma.va;
        harness->region_gpa[region] = commands[region].dma.gpa;
        if (!commands[region].result)
            continue;
        snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                 "the guest has no memory for region %s: error %lld",
                 harness->policy->guest.region[region].name, -(long long)commands[region].result);
        err = -ENOMEM;
    }
    return err;
}

static int setup_find_page(struct harness *harness, unsigned index, uint64_t va)
{
    struct harness_page *page = &harness->test_pages[index];

    page->va = va;
    page->gpa = harness_guest_gpa(&harness->guest, va);
    page->host = memory_at(harness->memory, page->gpa, ATTACK_PAGE_BYTES);
    page->expected_bytes = harness->expected_bytes + index * ATTACK_PAGE_BYTES;
    if (!page->gpa || !page->host)
        return -EFAULT;
    harness_renew(harness, page);
    return 0;
}

int harness_fill_canaries(struct harness *harness)
{
    uint64_t region_va[ABI_POLICY_REGIONS_MAX] = { 0 };
    unsigned page = 0;
    int err = setup_find_regions(harness, region_va);

    for (unsigned region = 0; region < harness->policy->guest.nregions && !err; region++) {
        harness->first_page[region] = page;
        if (harness->policy->guest.region[region].kind != ABI_REGION_BUFFER)
            continue;
        for (uint64_t at = 0; at < rules_region_bytes(harness->policy, region) && !err;
             at += ATTACK_PAGE_BYTES)
            err = setup_find_page(harness, page++, region_va[region] + at);
    }
    harness->first_use = page;
    for (; page < ABI_HARNESS_TEST_PAGES && !err; page++)
        err = setup_find_page(harness, page,
                              harness->guest.program.record.arg[ABI_HARNESS_PAGES] +
                                  page * ATTACK_PAGE_BYTES);
    return err;
}

/* ---- The policy's uses ------------------------------------------------------------- */

/* Commands on their way, and where the address that each gets belongs. */
struct batch {
    struct abi_harness_command command[ABI_HARNESS_COMMANDS];
    uint64_t *iova[ABI_HARNESS_COMMANDS];
    unsigned n;
};

/* Which of the policy's limits a mapping came up against, as a rule. */
static const char *setup_why_not(const struct harness *harness,
                                 const struct abi_harness_command *map)
{
    if (map->result == -ABI_ENOMEM && rules_bounces(harness->policy, map->dma.device))
        return "its pool is full; make it larger";
    if (map->result == -ABI_EIO)
        return "refused by the IOMMU; its quotas (strata,max-mappings, -per-domain) may be too "
               "small";
    if (map->result == -ABI_ENOMEM)
        return "no address or memory is left for it; reserve less (iommu-addresses, size)";
    return "which the policy does not explain";
}

static int setup_flush(struct harness *harness, struct batch *batch)
{
    int err = batch->n ? harness_call(harness, batch->command, batch->n) : 0;

    for (unsigned i = 0; i < batch->n && !err; i++) {
        if (!batch->iova[i])
            continue;
        *batch->iova[i] = batch->command[i].dma.iova;
        if (batch->command[i].result) {
            *batch->iova[i] = 0;
            snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                     "the guest cannot map a buffer of %s: error %lld, %s",
                     rules_device(harness->policy, batch->command[i].dma.device)->name,
                     -(long long)batch->command[i].result,
                     setup_why_not(harness, &batch->command[i]));
            err = -EIO;
        }
    }
    batch->n = 0;
    return err;
}

static int setup_add(struct harness *harness, struct batch *batch,
                     struct abi_harness_command command, uint64_t *iova)
{
    int err = batch->n == ABI_HARNESS_COMMANDS ? setup_flush(harness, batch) : 0;

    batch->command[batch->n] = command;
    batch->iova[batch->n++] = iova;
    return err;
}

static int setup_add_device(struct harness *harness, struct batch *batch, unsigned device)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);
    int err = setup_add(harness, batch, harness_command(device, ABI_DMA_ATTACH), NULL);

    for (unsigned use = 0; use < d->nuses && !err; use++) {
        unsigned region = d->use[use].region;
        uint64_t bytes = rules_region_bytes(harness->policy, region);

        if (harness->policy->guest.region[region].kind != ABI_REGION_BUFFER)
            continue;
        for (unsigned k = 0; k < bytes / ATTACK_PAGE_BYTES && !err; k++)
            err = setup_add(harness, batch,
                            harness_map_command(harness, device, harness->first_page[region] + k,
                                                d->use[use].rights),
                            &harness->iova[device][use][k]);
    }
    return err;
}

struct baseline_note {
    struct harness *harness;
    unsigned device;
};

static void setup_note_baseline(void *owner, const struct iommu_mapping *mapping)
{
    struct baseline_note *note = owner;
    unsigned *n = &note->harness->nbaseline[note->device];

    if (*n < HARNESS_BASELINE_MAX)
        note->harness->baseline[note->device][(*n)++].iova = mapping->iova;
}

/* What the kernel has mapped for itself so far: rings, pools, identity windows. */
static void setup_take_baseline(struct harness *harness, unsigned device)
{
    struct baseline_note note = { harness, device };
    bool bypass;

    harness->nbaseline[device] = 0;
    if (harness->iommu)
        iommu_each_mapping(harness->iommu, rules_device(harness->policy, device)->endpoint, &bypass,
                           setup_note_baseline, &note);
}

/*
 * How often the kernel must look to have seen every fault that may wait: each look takes
 * what lies in the buffers, and lets the unit fill them again. The unit keeps records, its
 * device has one in hand, and the buffers may be full.
 */
static unsigned setup_looks_for_all(const struct harness *harness)
{
    unsigned waiting;

    if (!harness->iommu)
        return 1;
    waiting = iommu_config(harness->iommu)->faults_max + 1 + EVENTS;
    return (waiting + EVENTS - 1) / EVENTS;
}

/*
 * Asking for faults makes the kernel look for them, and act. A device that it has taken off
 * its domain for that comes back; nothing happens to the others.
 */
static int setup_handle_faults(struct harness *harness)
{
    struct batch batch = { .n = 0 };
    int err = 0;

    for (unsigned looks = setup_looks_for_all(harness); looks && !err; looks--)
        err = setup_add(harness, &batch, harness_command(0, ABI_DMA_FAULT), NULL);
    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++) {
        if (rules_device(harness->policy, device)->fault_action != ABI_FAULT_REPORT)
            err = setup_add(harness, &batch, harness_command(device, ABI_DMA_ATTACH), NULL);
    }
    return err ? err : setup_flush(harness, &batch);
}

int harness_set_up(struct harness *harness)
{
    struct batch batch = { .n = 0 };
    int err = 0;

    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++)
        err = setup_add(harness, &batch, harness_command(device, ABI_DMA_ATTACH), NULL);
    if (!err)
        err = setup_flush(harness, &batch);
    /* The device may have faulted before. */
    if (!err)
        err = setup_handle_faults(harness);
    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++)
        setup_take_baseline(harness, device);
    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++)
        err = setup_add_device(harness, &batch, device);
    return err ? err : setup_flush(harness, &batch);
}

static int setup_set_up_device(struct harness *harness, unsigned device)
{
    struct batch batch = { .n = 0 };
    int err = setup_add(harness, &batch, harness_command(device, ABI_DMA_RESET), NULL);

    memset(harness->iova[device], 0, sizeof(harness->iova[device]));
    if (!err)
        err = setup_add_device(harness, &batch, device);
    return err ? err : setup_flush(harness, &batch);
}

int harness_set_up_device(struct harness *harness, unsigned device)
{
    bool reports = rules_device(harness->policy, device)->fault_action == ABI_FAULT_REPORT;
    int err = reports ? 0 : setup_handle_faults(harness);

    if (!err)
        err = setup_set_up_device(harness, device);
    /* The guest may still be acting upon an earlier fault. */
    for (unsigned i = 0; i < SET_UP_TRIES && err == -EIO && !reports; i++) {
        harness->guest.program.failure[0] = 0;
        err = setup_handle_faults(harness);
        if (!err)
            err = setup_set_up_device(harness, device);
    }
    return err;
}

static bool setup_intact(struct harness *harness, unsigned device)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);

    for (unsigned use = 0; use < d->nuses; use++) {
        for (unsigned k = 0; k < RULES_REGION_PAGES; k++) {
            uint64_t iova = harness->iova[device][use][k];

            if (iova && !harness_mapped(harness, device, iova))
                return false;
        }
    }
    return true;
}

int harness_settle(struct harness *harness)
{
    int err = setup_handle_faults(harness);

    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++) {
        if (!rules_untranslated(harness->policy, device) && !setup_intact(harness, device))
            err = harness_set_up_device(harness, device);
    }
    return err;
}
