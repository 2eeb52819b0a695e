#include "vmm/dma/measures.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/monotonic.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

#define WINDOW_SAMPLES 9
#define WINDOW_MS      200 /* a lazy flush has come by then */

/* ---- Exposure ---------------------------------------------------------------------------- */

struct exposure {
    uint8_t *rights; /* of each page of RAM */
    uint64_t pages;
};

static void measures_expose(void *owner, const struct iommu_mapping *mapping)
{
    struct exposure *exposure = owner;
    struct iommu_range iova = mapping->iova;

    for (uint64_t at = 0; at <= iova.last - iova.first; at += ATTACK_PAGE_BYTES) {
        uint64_t page = (mapping->gpa + at) / ATTACK_PAGE_BYTES;

        if (page < exposure->pages)
            exposure->rights[page] |= (uint8_t)(mapping->prot & RULES_BOTH);
    }
}

void measures_exposure(struct harness *harness)
{
    struct exposure exposure = { .pages = harness->memory->bytes / ATTACK_PAGE_BYTES };

    exposure.rights = malloc(exposure.pages);
    for (unsigned device = 0; exposure.rights && device < harness->policy->guest.ndevices;
         device++) {
        const struct abi_policy_device *d = rules_device(harness->policy, device);
        struct harness_exposure *result = &harness->result->exposure[device];
        bool bypass = !harness->iommu;

        memset(exposure.rights, 0, exposure.pages);
        if (harness->iommu)
            iommu_each_mapping(harness->iommu, d->endpoint, &bypass, measures_expose, &exposure);
        for (uint64_t page = 0; page < exposure.pages; page++) {
            uint32_t rights = bypass ? RULES_BOTH : exposure.rights[page];

            result->read_bytes += rights & RULES_READ ? ATTACK_PAGE_BYTES : 0;
            result->write_bytes += rights & RULES_WRITE ? ATTACK_PAGE_BYTES : 0;
        }
        for (unsigned use = 0; use < d->nuses; use++) {
            const struct abi_policy_region *region = &harness->policy->guest
                                                          .region[d->use[use].region];
            /* A window is mapped whole. */
            uint64_t bytes = region->kind == ABI_REGION_IDENTITY
                                 ? region->bytes
                                 : rules_region_bytes(harness->policy, d->use[use].region);

            result->needed_read_bytes += d->use[use].rights & RULES_READ ? bytes : 0;
            result->needed_write_bytes += d->use[use].rights & RULES_WRITE ? bytes : 0;
        }
    }
    free(exposure.rights);
}

/* ---- Windows --------------------------------------------------------------------------------- */

struct sample {
    uint64_t accesses;
    double ns;
};

/*
 * The device reads the page as fast as it can while the guest, which runs, unmaps it.
 * Counted is what came through though it began after the unmap had returned.
 */
static bool measures_hammer(struct harness *harness, unsigned device, uint64_t iova,
                            struct sample *sample)
{
    struct abi_harness_command command = harness_command(device, ABI_DMA_UNMAP);
    uint64_t word, limit = monotonic_ns() + 10ull * WINDOW_MS * 1000000u, returned_ns = 0;
    const struct dma_request request = {
        .iova = iova, .len = sizeof(word), .direction = DMA_READ, .data = &word
    };
    struct dma_outcome outcome;
    int err;

    *sample = (struct sample){ 0 };
    command.op = ABI_HARNESS_UNMAP_WATCHED;
    command.dma.iova = iova;
    /* For this command `operation` is the time to wait. */
    command.operation = WINDOW_MS;
    err = harness_guest_post(&harness->guest, &command, 1);
    while (!err && monotonic_ns() < limit) {
        if (!returned_ns && harness_guest_flag(&harness->guest) == ABI_HARNESS_RETURNED)
            returned_ns = monotonic_ns();
        dma_perform(harness->dma[device], &request, &outcome);
        if (outcome.error) {
            /* Shut before or after the unmap returned; both are ends. */
            if (returned_ns)
                sample->ns = (double)(monotonic_ns() - returned_ns);
            break;
        }
        sample->accesses += returned_ns != 0;
    }
    /* It raises the flag itself first. */
    while (!err && harness_guest_flag(&harness->guest) != ABI_HARNESS_RETURNED &&
           monotonic_ns() < limit)
        sched_yield();
    harness_guest_set_flag(&harness->guest, ABI_HARNESS_STOP);
    if (!err)
        err = harness_guest_collect(&harness->guest, &command, 1, HARNESS_CALL_MS);
    return !err && command.result == 0;
}

static int measures_by_ns(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static int measures_by_accesses(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;

    return x->accesses < y->accesses ? -1 : x->accesses > y->accesses;
}

static void measure_window(struct harness *harness, unsigned device)
{
    struct harness_window *window = &harness->result->window[device];
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_SCRATCH);
    struct sample samples[WINDOW_SAMPLES];
    unsigned n = 0;

    for (unsigned i = 0; i < WINDOW_SAMPLES && !harness_settle(harness); i++) {
        struct abi_harness_command map = harness_map_command(
            harness, device, (unsigned)(page - harness->test_pages), RULES_BOTH);

        if (harness_call(harness, &map, 1) || map.result)
            break;
        n += measures_hammer(harness, device, map.dma.iova, &samples[n]);
    }
    harness_restore(page);
    if (!n)
        return;
    qsort(samples, n, sizeof(samples[0]), measures_by_accesses);
    window->measured = true;
    window->samples = n;
    window->accesses_median = samples[n / 2].accesses;
    window->accesses_max = samples[n - 1].accesses;
    harness_check(&harness->unmapping[device],
                  rules_device(harness->policy, device)->mode == ABI_DMA_LAZY ||
                      !window->accesses_max,
                  "strict: expected no access after unmap has returned, observed %llu",
                  (unsigned long long)window->accesses_max);
    qsort(samples, n, sizeof(samples[0]), measures_by_ns);
    window->ns_median = samples[n / 2].ns;
    window->ns_p99 = samples[(n * 99 - 1) / 100].ns;
    window->ns_max = samples[n - 1].ns;
}

void measures_windows(struct harness *harness)
{
    for (unsigned device = 0;
         device < harness->policy->guest.ndevices && !harness->guest.program.failure[0]; device++) {
        /* Without translation there is no end to wait for, and a pool is never unmapped. */
        if (!rules_untranslated(harness->policy, device) && !rules_bounces(harness->policy, device))
            measure_window(harness, device);
    }
}
