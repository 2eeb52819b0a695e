#include "vmm/dma/random_requests.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/monotonic.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/memory.h"

#define ROUND       256 /* requests between two calls of the guest */
#define REQUEST_MAX (2 * ATTACK_PAGE_BYTES)
#define STALE_MAX   16
/* No device has anything from here on. */
#define NOWHERE       (2 * POLICY_ATTACKED_FIRST)
#define NOWHERE_BYTES (POLICY_ATTACKED_LAST - NOWHERE + 1)

/* What the model says of one page of a device's addresses. */
enum fate {
    REFUSED,
    ALLOWED,
    UNKNOWN, /* the kernel's own mappings, the interrupt window: no request goes there */
};

struct page_fate {
    enum fate fate;
    uint8_t *host; /* ALLOWED: the page; NULL: a slot of a pool, it is not known which */
};

struct monkey {
    struct harness *harness;
    uint64_t stale[STALE_MAX]; /* addresses that led somewhere once */
    unsigned nstale;
};

static uint64_t random_below(struct harness *harness, uint64_t limit)
{
    return harness_random(harness) % limit;
}

static void random_fail(struct harness *harness, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void random_fail(struct harness *harness, const char *format, ...)
{
    struct harness_result *result = harness->result;
    va_list arguments;
    size_t n;

    if (result->random_failures++)
        return;
    n = (size_t)snprintf(result->random_failure, sizeof(result->random_failure),
                         "request %llu: ", (unsigned long long)result->random_steps);
    va_start(arguments, format);
    vsnprintf(result->random_failure + n, sizeof(result->random_failure) - n, format, arguments);
    va_end(arguments);
}

/* ---- The model ------------------------------------------------------------------------ */

/* The page of the test pages behind a page of a device's uses. */
static struct harness_page *random_test_page(struct harness *harness, unsigned device, unsigned use,
                                             unsigned k)
{
    unsigned region = rules_device(harness->policy, device)->use[use].region;

    return &harness->test_pages[harness->first_page[region] + k];
}

/* What this device's own mappings make of an address. */
static void random_by_mappings(struct harness *harness, unsigned device, uint64_t iova,
                               uint32_t wanted, struct page_fate *page)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);

    for (unsigned i = 0; i < harness->nbaseline[device]; i++) {
        const struct iommu_range *range = &harness->baseline[device][i].iova;

        if (iova <= range->last && iova + (ATTACK_PAGE_BYTES - 1) >= range->first)
            page->fate = UNKNOWN;
    }
    for (unsigned use = 0; use < d->nuses && page->fate != UNKNOWN; use++) {
        uint32_t rights = rules_disabled(harness->policy, IOMMU_CHECK_PERMISSION)
                              ? RULES_BOTH
                              : d->use[use].rights;

        for (unsigned k = 0; k < RULES_REGION_PAGES; k++) {
            if (harness->iova[device][use][k] != iova || !iova)
                continue;
            page->fate = rights & wanted ? ALLOWED : REFUSED;
            page->host = rules_bounces(harness->policy, device)
                             ? NULL
                             : random_test_page(harness, device, use, k)->host;
        }
    }
}

/* The fate of an access to one page; iova is where it starts. */
static struct page_fate random_fate_of(struct harness *harness, unsigned device, uint64_t iova,
                                       uint32_t wanted)
{
    struct page_fate page = { .fate = REFUSED };

    if (iova <= IOMMU_MSI_LAST && iova + (ATTACK_PAGE_BYTES - 1) >= IOMMU_MSI_FIRST)
        return (struct page_fate){ .fate = UNKNOWN };
    if (rules_untranslated(harness->policy, device)) {
        page.host = memory_at(harness->memory, iova, ATTACK_PAGE_BYTES);
        /* Other devices' registers are left alone. */
        page.fate = page.host ? ALLOWED : iova >= NOWHERE ? REFUSED : UNKNOWN;
        return page;
    }
    random_by_mappings(harness, device, iova, wanted, &page);
    for (unsigned other = 0; other < harness->policy->guest.ndevices && page.fate == REFUSED;
         other++) {
        if (other != device && rules_same_domain(harness->policy, device, other))
            random_by_mappings(harness, other, iova, wanted, &page);
    }
    return page;
}

/* ---- A request ------------------------------------------------------------------------ */

struct attempt {
    unsigned device;
    enum dma_direction direction;
    uint64_t iova, len;
    struct page_fate page[REQUEST_MAX / ATTACK_PAGE_BYTES + 1];
    uint64_t passes; /* bytes before the first page that is refused */
    uint8_t data[REQUEST_MAX], before[REQUEST_MAX];
};

/* Host memory of the byte at an offset of the attempt; NULL: not known. */
static uint8_t *random_host_at(const struct attempt *attempt, uint64_t offset)
{
    uint64_t at = attempt->iova % ATTACK_PAGE_BYTES + offset;
    uint8_t *page = attempt->page[at / ATTACK_PAGE_BYTES].host;

    return page ? page + at % ATTACK_PAGE_BYTES : NULL;
}

/* False: the model cannot tell, and the request must not be made. */
static bool random_predict(struct harness *harness, struct attempt *attempt)
{
    uint64_t start = attempt->iova / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES;
    uint64_t end = attempt->iova + attempt->len;

    attempt->passes = attempt->len;
    for (uint64_t at = start; at < end; at += ATTACK_PAGE_BYTES) {
        struct page_fate *page = &attempt->page[(at - start) / ATTACK_PAGE_BYTES];

        *page = random_fate_of(harness, attempt->device, at, attempt->direction);
        if (page->fate == UNKNOWN)
            return false;
        if (page->fate == REFUSED) {
            attempt->passes = at > attempt->iova ? at - attempt->iova : 0;
            break;
        }
    }
    return true;
}

static void random_check_outcome(struct harness *harness, const struct attempt *attempt,
                                 const struct dma_outcome *outcome, uint64_t faults,
                                 const struct iommu_fault *fault)
{
    const struct abi_policy_device *d = rules_device(harness->policy, attempt->device);
    bool passes = attempt->passes == attempt->len;
    bool told = !harness->iommu || rules_untranslated(harness->policy, attempt->device);

    if (outcome->done != attempt->passes || (outcome->error == 0) != passes) {
        random_fail(
            harness,
            "%s: %s of %llu bytes at 0x%llx: expected %llu to pass, observed %llu, error %d",
            d->name, attempt->direction == DMA_READ ? "read" : "write",
            (unsigned long long)attempt->len, (unsigned long long)attempt->iova,
            (unsigned long long)attempt->passes, (unsigned long long)outcome->done,
            -outcome->error);
        return;
    }
    if (!told && faults != !passes)
        random_fail(harness, "%s: at 0x%llx: expected %d faults, observed %llu", d->name,
                    (unsigned long long)attempt->iova, !passes, (unsigned long long)faults);
    else if (!told && !passes &&
             (fault->endpoint != d->endpoint || fault->access != (uint32_t)attempt->direction ||
              fault->iova != attempt->iova + attempt->passes))
        random_fail(harness, "%s: at 0x%llx: a fault record of endpoint %u, 0x%llx, access %u",
                    d->name, (unsigned long long)attempt->iova, fault->endpoint,
                    (unsigned long long)fault->iova, fault->access);
}

/* What was read is what is there; what was written is there, and nothing else is. */
static void random_check_memory(struct harness *harness, const struct attempt *attempt)
{
    for (uint64_t at = 0; at < attempt->len; at++) {
        const uint8_t *host = at < attempt->passes ? random_host_at(attempt, at) : NULL;

        if (host && *host != attempt->data[at]) {
            random_fail(harness, "%s: %s at 0x%llx: byte %llu is not that of memory",
                        rules_device(harness->policy, attempt->device)->name,
                        attempt->direction == DMA_READ ? "read" : "write",
                        (unsigned long long)attempt->iova, (unsigned long long)at);
            return;
        }
    }
}

static void random_try_it(struct harness *harness, struct attempt *attempt)
{
    const struct dma_request request = { .iova = attempt->iova,
                                         .len = attempt->len,
                                         .direction = attempt->direction,
                                         .data = attempt->data };
    uint64_t before = harness_faults(harness, NULL), faults;
    struct iommu_fault fault = { 0 };
    struct dma_outcome outcome;

    for (uint64_t at = 0; at < attempt->len; at++) {
        uint8_t *host = at < attempt->passes ? random_host_at(attempt, at) : NULL;

        attempt->before[at] = host ? *host : 0;
        attempt->data[at] = (uint8_t)~attempt->before[at];
    }
    harness->result->random_steps++;
    dma_perform(harness->dma[attempt->device], &request, &outcome);
    faults = harness_faults(harness, &fault) - before;
    random_check_outcome(harness, attempt, &outcome, faults, &fault);
    random_check_memory(harness, attempt);
    for (uint64_t at = 0; at < attempt->passes && attempt->direction == DMA_WRITE; at++) {
        uint8_t *host = random_host_at(attempt, at);

        if (host)
            *host = attempt->before[at];
    }
}

/* ---- Where to go ------------------------------------------------------------------------ */

/* A page that some device has, or had. */
static uint64_t random_some_mapping(struct harness *harness, unsigned device)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);

    if (!d->nuses)
        return NOWHERE;
    return harness
        ->iova[device][random_below(harness, d->nuses)][random_below(harness, RULES_REGION_PAGES)];
}

static uint64_t random_choose_address(struct monkey *monkey, unsigned device)
{
    struct harness *harness = monkey->harness;
    uint64_t page;

    switch (random_below(harness, 8)) {
    case 0:
    case 1:
    case 2: page = random_some_mapping(harness, device); break;
    case 3:
        page = random_some_mapping(
            harness, (unsigned)random_below(harness, harness->policy->guest.ndevices));
        break;
    case 4:
        page = monkey->nstale ? monkey->stale[random_below(harness, monkey->nstale)] : NOWHERE;
        break;
    case 5: page = harness->test_pages[random_below(harness, ABI_HARNESS_TEST_PAGES)].gpa; break;
    case 6: page = random_below(harness, harness->memory->bytes); break;
    default: page = NOWHERE + random_below(harness, NOWHERE_BYTES);
    }
    page = page / ATTACK_PAGE_BYTES * ATTACK_PAGE_BYTES;
    /* Sometimes from the page before into this one. */
    if (page >= ATTACK_PAGE_BYTES && random_below(harness, 4) == 0)
        page -= ATTACK_PAGE_BYTES;
    return page + random_below(harness, ATTACK_PAGE_BYTES);
}

static void random_run_round(struct monkey *monkey)
{
    struct harness *harness = monkey->harness;
    static struct attempt attempt;
    unsigned wrong;

    for (unsigned i = 0; i < ROUND; i++) {
        attempt.device = (unsigned)random_below(harness, harness->policy->guest.ndevices);
        attempt.direction = random_below(harness, 2) ? DMA_READ : DMA_WRITE;
        attempt.iova = random_choose_address(monkey, attempt.device);
        attempt.len = 1 + random_below(harness, random_below(harness, 4) ? 64 : REQUEST_MAX);
        if (random_predict(harness, &attempt))
            random_try_it(harness, &attempt);
    }
    wrong = harness_verify(harness);
    if (wrong)
        random_fail(harness, "%u pages that no request was to change have changed", wrong);
}

/* ---- What the guest does meanwhile ------------------------------------------------------- */

static void random_note_stale(struct monkey *monkey, uint64_t iova)
{
    unsigned at = monkey->nstale < STALE_MAX ? monkey->nstale++
                                             : (unsigned)random_below(monkey->harness, STALE_MAX);

    monkey->stale[at] = iova;
}

/* Maps a page of a device's uses that is not mapped, or unmaps one that is. */
static int random_change_mapping(struct monkey *monkey)
{
    struct harness *harness = monkey->harness;
    unsigned device = (unsigned)random_below(harness, harness->policy->guest.ndevices), use, k;
    const struct abi_policy_device *d = rules_device(harness->policy, device);
    struct abi_harness_command commands[2];
    uint64_t *iova;
    int err;

    if (!d->nuses)
        return 0;
    use = (unsigned)random_below(harness, d->nuses);
    if (harness->policy->guest.region[d->use[use].region].kind != ABI_REGION_BUFFER)
        return 0;
    k = (unsigned)random_below(harness, rules_region_bytes(harness->policy, d->use[use].region) /
                                            ATTACK_PAGE_BYTES);
    iova = &harness->iova[device][use][k];
    if (*iova) {
        commands[0] = harness_command(device, ABI_DMA_UNMAP);
        commands[0].dma.iova = *iova;
        /* So that a lazy unmap is not a matter of chance. */
        commands[1] = harness_command(device, ABI_DMA_FLUSH);
        err = harness_call(harness, commands, 2);
        random_note_stale(monkey, *iova);
        *iova = 0;
        return err;
    }
    commands[0] = harness_map_command(harness, device, harness->first_page[d->use[use].region] + k,
                                      d->use[use].rights);
    err = harness_call(harness, commands, 1);
    if (!err && !commands[0].result)
        *iova = commands[0].dma.iova;
    return err;
}

void random_requests_run(struct harness *harness)
{
    const struct harness_options *options = harness->options;
    uint64_t start = monotonic_ms(), told = 0;
    struct monkey monkey = { .harness = harness };

    for (uint64_t gone = 0; gone < options->random_seconds;
         gone = (monotonic_ms() - start) / 1000) {
        /* What the guest does about faults, it does in there. */
        if (harness_settle(harness) || random_change_mapping(&monkey) || harness_settle(harness))
            break;
        /* What was bounced has come back, with what requests wrote to it. */
        harness_verify(harness);
        random_run_round(&monkey);
        if (options->progress && gone > told)
            options->progress(options->owner, (unsigned)gone, options->random_seconds);
        told = gone;
    }
    if (options->progress)
        options->progress(options->owner, options->random_seconds, options->random_seconds);
}
