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

int lab_call(struct lab *lab, struct abi_lab_command *commands, unsigned n)
{
    int err = lab_guest_post(&lab->guest, commands, n);

    if (!err)
        err = lab_guest_collect(&lab->guest, commands, n, LAB_CALL_MS);
    if (err == -ETIMEDOUT && !lab->guest.failure[0])
        snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                 "the guest's program did not come back from operation %u of %u within %d ms",
                 commands[0].operation, commands[0].op, LAB_CALL_MS);
    return err;
}

struct abi_lab_command lab_command(unsigned device, enum abi_dma_op op)
{
    return (struct abi_lab_command){ .op = ABI_LAB_DMA, .operation = op, .dma.device = device };
}

int64_t lab_dma(struct lab *lab, unsigned device, enum abi_dma_op op, struct abi_dma *dma)
{
    struct abi_lab_command command = lab_command(device, op);
    int err;

    command.dma = *dma;
    command.dma.device = device;
    err = lab_call(lab, &command, 1);
    *dma = command.dma;
    return err ? -ESHUTDOWN : command.result;
}

struct abi_lab_command lab_map_command(const struct lab *lab, unsigned device, unsigned page,
                                       uint32_t rights)
{
    struct abi_lab_command command = lab_command(device, ABI_DMA_MAP);

    command.dma.va = lab->arena[page].va;
    command.dma.bytes = ATTACK_PAGE_BYTES;
    command.dma.rights = rights;
    return command;
}

struct lab_page *lab_page(struct lab *lab, enum lab_page_use use)
{
    return &lab->arena[lab->first_use + use];
}

/* ---- Canaries -------------------------------------------------------------------- */

void lab_restore(struct lab_page *page)
{
    memcpy(page->host, page->truth, ATTACK_PAGE_BYTES);
}

void lab_renew(struct lab *lab, struct lab_page *page)
{
    lab_random_fill(lab, lab->truth + (page - lab->arena) * ATTACK_PAGE_BYTES, ATTACK_PAGE_BYTES);
    lab_restore(page);
}

unsigned lab_verify(struct lab *lab)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < ABI_LAB_ARENA_PAGES; i++) {
        if (memcmp(lab->arena[i].host, lab->arena[i].truth, ATTACK_PAGE_BYTES)) {
            wrong++;
            lab_restore(&lab->arena[i]);
        }
    }
    return wrong;
}

/* Where the kernel has the policy's regions; it maps them into the program as well. */
static int find_regions(struct lab *lab, uint64_t va[ABI_POLICY_REGIONS_MAX])
{
    unsigned n = lab->policy->guest.nregions;
    struct abi_lab_command commands[ABI_POLICY_REGIONS_MAX];
    int err;

    for (unsigned region = 0; region < n; region++)
        commands[region] = lab_command(region, ABI_DMA_REGION);
    err = n ? lab_call(lab, commands, n) : 0;
    for (unsigned region = 0; region < n && !err; region++) {
        va[region] = commands[region].dma.va;
        lab->region_gpa[region] = commands[region].dma.gpa;
        if (!commands[region].result)
            continue;
        snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                 "the guest has no memory for region %s: error %lld",
                 lab->policy->guest.region[region].name, -(long long)commands[region].result);
        err = -ENOMEM;
    }
    return err;
}

static int find_page(struct lab *lab, unsigned index, uint64_t va)
{
    struct lab_page *page = &lab->arena[index];

    page->va = va;
    page->gpa = lab_guest_gpa(&lab->guest, va);
    page->host = memory_at(lab->memory, page->gpa, ATTACK_PAGE_BYTES);
    page->truth = lab->truth + index * ATTACK_PAGE_BYTES;
    if (!page->gpa || !page->host)
        return -EFAULT;
    lab_renew(lab, page);
    return 0;
}

int lab_plant(struct lab *lab)
{
    uint64_t region_va[ABI_POLICY_REGIONS_MAX] = { 0 };
    unsigned page = 0;
    int err = find_regions(lab, region_va);

    for (unsigned region = 0; region < lab->policy->guest.nregions && !err; region++) {
        lab->first_page[region] = page;
        if (lab->policy->guest.region[region].kind != ABI_REGION_BUFFER)
            continue;
        for (uint64_t at = 0; at < rules_region_bytes(lab->policy, region) && !err;
             at += ATTACK_PAGE_BYTES)
            err = find_page(lab, page++, region_va[region] + at);
    }
    lab->first_use = page;
    for (; page < ABI_LAB_ARENA_PAGES && !err; page++)
        err = find_page(lab, page, lab->guest.record.arg[ABI_LAB_ARENA] + page * ATTACK_PAGE_BYTES);
    return err;
}

/* ---- The policy's uses ------------------------------------------------------------- */

/* Commands on their way, and where the address that each gets belongs. */
struct batch {
    struct abi_lab_command command[ABI_LAB_COMMANDS];
    uint64_t *iova[ABI_LAB_COMMANDS];
    unsigned n;
};

/* Which of the policy's limits a mapping came up against, as a rule. */
static const char *why_not(const struct lab *lab, const struct abi_lab_command *map)
{
    if (map->result == -ABI_ENOMEM && rules_bounces(lab->policy, map->dma.device))
        return "its pool is full; make it larger";
    if (map->result == -ABI_EIO)
        return "refused by the IOMMU; its quotas (strata,max-mappings, -per-domain) may be too "
               "small";
    if (map->result == -ABI_ENOMEM)
        return "no address or memory is left for it; reserve less (iommu-addresses, size)";
    return "which the policy does not explain";
}

static int flush(struct lab *lab, struct batch *batch)
{
    int err = batch->n ? lab_call(lab, batch->command, batch->n) : 0;

    for (unsigned i = 0; i < batch->n && !err; i++) {
        if (!batch->iova[i])
            continue;
        *batch->iova[i] = batch->command[i].dma.iova;
        if (batch->command[i].result) {
            *batch->iova[i] = 0;
            snprintf(lab->guest.failure, sizeof(lab->guest.failure),
                     "the guest cannot map a buffer of %s: error %lld, %s",
                     rules_device(lab->policy, batch->command[i].dma.device)->name,
                     -(long long)batch->command[i].result, why_not(lab, &batch->command[i]));
            err = -EIO;
        }
    }
    batch->n = 0;
    return err;
}

static int add(struct lab *lab, struct batch *batch, struct abi_lab_command command, uint64_t *iova)
{
    int err = batch->n == ABI_LAB_COMMANDS ? flush(lab, batch) : 0;

    batch->command[batch->n] = command;
    batch->iova[batch->n++] = iova;
    return err;
}

static int add_device(struct lab *lab, struct batch *batch, unsigned device)
{
    const struct abi_policy_device *d = rules_device(lab->policy, device);
    int err = add(lab, batch, lab_command(device, ABI_DMA_ATTACH), NULL);

    for (unsigned use = 0; use < d->nuses && !err; use++) {
        unsigned region = d->use[use].region;
        uint64_t bytes = rules_region_bytes(lab->policy, region);

        if (lab->policy->guest.region[region].kind != ABI_REGION_BUFFER)
            continue;
        for (unsigned k = 0; k < bytes / ATTACK_PAGE_BYTES && !err; k++)
            err = add(lab, batch,
                      lab_map_command(lab, device, lab->first_page[region] + k, d->use[use].rights),
                      &lab->iova[device][use][k]);
    }
    return err;
}

struct baseline_note {
    struct lab *lab;
    unsigned device;
};

static void note_baseline(void *owner, struct iommu_range iova, uint64_t gpa, uint32_t rights)
{
    struct baseline_note *note = owner;
    unsigned *n = &note->lab->nbaseline[note->device];

    (void)gpa, (void)rights;
    if (*n < LAB_BASELINE_MAX)
        note->lab->baseline[note->device][(*n)++].iova = iova;
}

/* What the kernel has mapped for itself so far: rings, pools, holes. */
static void take_baseline(struct lab *lab, unsigned device)
{
    struct baseline_note note = { lab, device };
    bool bypass;

    lab->nbaseline[device] = 0;
    if (lab->iommu)
        iommu_each_mapping(lab->iommu, rules_device(lab->policy, device)->endpoint, &bypass,
                           note_baseline, &note);
}

/*
 * How often the kernel must look to have seen every fault that may wait: each look takes
 * what lies in the buffers, and lets the unit fill them again. The unit keeps records, its
 * device has one in hand, and the buffers may be full.
 */
static unsigned looks_for_all(const struct lab *lab)
{
    unsigned waiting;

    if (!lab->iommu)
        return 1;
    waiting = iommu_config(lab->iommu)->faults_max + 1 + EVENTS;
    return (waiting + EVENTS - 1) / EVENTS;
}

/*
 * Whoever asks for faults makes the kernel look for them, and act. A device that it has taken
 * off its domain for that comes back; nothing happens to the others.
 */
static int let_guest_act(struct lab *lab)
{
    struct abi_lab_command commands[ABI_LAB_COMMANDS];
    unsigned n = 0, looks = looks_for_all(lab);
    int err;

    for (; looks > ABI_LAB_COMMANDS - ABI_POLICY_DEVICES_MAX; looks -= n) {
        for (n = 0; n < looks && n < ABI_LAB_COMMANDS; n++)
            commands[n] = lab_command(0, ABI_DMA_FAULT);
        err = lab_call(lab, commands, n);
        if (err)
            return err;
    }
    for (n = 0; n < looks; n++)
        commands[n] = lab_command(0, ABI_DMA_FAULT);
    for (unsigned device = 0; device < lab->policy->guest.ndevices; device++) {
        if (rules_device(lab->policy, device)->fault_action != ABI_FAULT_REPORT)
            commands[n++] = lab_command(device, ABI_DMA_ATTACH);
    }
    return lab_call(lab, commands, n);
}

int lab_set_up(struct lab *lab)
{
    struct batch batch = { .n = 0 };
    int err = 0;

    for (unsigned device = 0; device < lab->policy->guest.ndevices && !err; device++)
        err = add(lab, &batch, lab_command(device, ABI_DMA_ATTACH), NULL);
    if (!err)
        err = flush(lab, &batch);
    /* The device may have faulted before. */
    if (!err)
        err = let_guest_act(lab);
    for (unsigned device = 0; device < lab->policy->guest.ndevices && !err; device++)
        take_baseline(lab, device);
    for (unsigned device = 0; device < lab->policy->guest.ndevices && !err; device++)
        err = add_device(lab, &batch, device);
    return err ? err : flush(lab, &batch);
}

static int set_up_device(struct lab *lab, unsigned device)
{
    struct batch batch = { .n = 0 };
    int err = add(lab, &batch, lab_command(device, ABI_DMA_RESET), NULL);

    memset(lab->iova[device], 0, sizeof(lab->iova[device]));
    if (!err)
        err = add_device(lab, &batch, device);
    return err ? err : flush(lab, &batch);
}

int lab_set_up_device(struct lab *lab, unsigned device)
{
    bool reports = rules_device(lab->policy, device)->fault_action == ABI_FAULT_REPORT;
    int err = reports ? 0 : let_guest_act(lab);

    if (!err)
        err = set_up_device(lab, device);
    /* The guest may still be acting upon an earlier fault. */
    for (unsigned i = 0; i < SET_UP_TRIES && err == -EIO && !reports; i++) {
        lab->guest.failure[0] = 0;
        err = let_guest_act(lab);
        if (!err)
            err = set_up_device(lab, device);
    }
    return err;
}

static bool intact(struct lab *lab, unsigned device)
{
    const struct abi_policy_device *d = rules_device(lab->policy, device);

    for (unsigned use = 0; use < d->nuses; use++) {
        for (unsigned k = 0; k < RULES_REGION_PAGES; k++) {
            uint64_t iova = lab->iova[device][use][k];

            if (iova && !lab_mapped(lab, device, iova))
                return false;
        }
    }
    return true;
}

int lab_settle(struct lab *lab)
{
    int err = let_guest_act(lab);

    for (unsigned device = 0; device < lab->policy->guest.ndevices && !err; device++) {
        if (!rules_untranslated(lab->policy, device) && !intact(lab, device))
            err = lab_set_up_device(lab, device);
    }
    return err;
}
