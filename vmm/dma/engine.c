#include "vmm/dma/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "devices/core/board.h"
#include "vmm/machine/vm.h"

uint64_t harness_random(struct harness *harness)
{
    uint64_t value = harness->random += 0x9e3779b97f4a7c15ull;

    /* SplitMix64 (Steele, Lea and Flood, 2014). */
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

void harness_random_fill(struct harness *harness, void *to, size_t bytes)
{
    uint8_t *at = to;

    while (bytes) {
        uint64_t value = harness_random(harness);
        size_t n = bytes < sizeof(value) ? bytes : sizeof(value);

        memcpy(at, &value, n);
        at += n;
        bytes -= n;
    }
}

void harness_sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

    nanosleep(&time, NULL);
}

bool harness_check(struct matrix_cell *cell, bool ok, const char *format, ...)
{
    va_list args;

    cell->checks++;
    if (ok)
        return true;
    if (!cell->failed++) {
        va_start(args, format);
        vsnprintf(cell->failure, sizeof(cell->failure), format, args);
        va_end(args);
    }
    return false;
}

void harness_merge(struct matrix_cell *cell, const struct matrix_cell *part)
{
    if (part->failed && !cell->failed)
        memcpy(cell->failure, part->failure, sizeof(cell->failure));
    cell->checks += part->checks;
    cell->failed += part->failed;
}

void harness_conclude(struct matrix_cell *cell)
{
    if (cell->observed.read_bytes || cell->observed.write_bytes)
        cell->observed.succeeds = true;
}

uint64_t harness_faults(struct harness *harness, struct iommu_fault *last)
{
    uint64_t count;

    pthread_mutex_lock(&harness->faults_lock);
    count = harness->nfaults;
    if (last && count)
        *last = harness->faults[(count - 1) % HARNESS_FAULTS_MAX];
    pthread_mutex_unlock(&harness->faults_lock);
    return count;
}

/* ---- Where addresses lead ---------------------------------------------------- */

struct harness_lookup {
    uint64_t iova, len, gpa;
    bool found, whole;
};

static void harness_look(void *owner, const struct iommu_mapping *mapping)
{
    struct harness_lookup *lookup = owner;
    struct iommu_range iova = mapping->iova;

    if (lookup->iova < iova.first || lookup->iova > iova.last)
        return;
    lookup->found = true;
    lookup->gpa = mapping->gpa + (lookup->iova - iova.first);
    lookup->whole = iova.last - lookup->iova >= lookup->len - 1;
}

/* Where an address of the device leads: false if nowhere, or not for all of len. */
static bool harness_find_gpa(struct harness *harness, unsigned device, uint64_t iova, uint64_t len,
                             uint64_t *gpa)
{
    struct harness_lookup lookup = { .iova = iova, .len = len };
    bool bypass = !harness->iommu;

    if (harness->iommu &&
        iommu_each_mapping(harness->iommu, rules_device(harness->policy, device)->endpoint, &bypass,
                           harness_look, &lookup))
        return false;
    *gpa = bypass ? iova : lookup.gpa;
    return bypass || (lookup.found && lookup.whole);
}

uint8_t *harness_host(struct harness *harness, unsigned device, uint64_t iova, uint64_t len)
{
    uint64_t gpa;

    return harness_find_gpa(harness, device, iova, len, &gpa) ? memory_at(harness->memory, gpa, len)
                                                              : NULL;
}

bool harness_mapped(struct harness *harness, unsigned device, uint64_t iova)
{
    struct harness_lookup lookup = { .iova = iova, .len = 1 };
    bool bypass = !harness->iommu;

    if (harness->iommu &&
        iommu_each_mapping(harness->iommu, rules_device(harness->policy, device)->endpoint, &bypass,
                           harness_look, &lookup))
        return false;
    return bypass || lookup.found;
}

static void harness_look_back(void *owner, const struct iommu_mapping *mapping)
{
    struct harness_lookup *lookup = owner;
    struct iommu_range iova = mapping->iova;
    uint64_t gpa = mapping->gpa;

    if (lookup->found || lookup->gpa < gpa || lookup->gpa - gpa > iova.last - iova.first)
        return;
    lookup->found = true;
    lookup->iova = iova.first + (lookup->gpa - gpa);
}

bool harness_iova_of(struct harness *harness, unsigned device, uint64_t gpa, uint64_t *iova)
{
    struct harness_lookup lookup = { .gpa = gpa };
    bool bypass;

    if (!harness->iommu ||
        iommu_each_mapping(harness->iommu, rules_device(harness->policy, device)->endpoint, &bypass,
                           harness_look_back, &lookup))
        return false;
    *iova = lookup.iova;
    return lookup.found && !bypass;
}

/* Whether a mapping of this device, as far as the guest told of it, covers the address. */
static bool harness_told(const struct harness *harness, unsigned device, uint64_t iova)
{
    const struct abi_policy_device *d = rules_device(harness->policy, device);

    for (unsigned use = 0; use < d->nuses; use++) {
        for (unsigned k = 0; k < RULES_REGION_PAGES; k++) {
            uint64_t at = harness->iova[device][use][k];

            if (at && iova / ATTACK_PAGE_BYTES == at / ATTACK_PAGE_BYTES)
                return true;
        }
    }
    for (unsigned i = 0; i < harness->nbaseline[device]; i++) {
        const struct iommu_range *range = &harness->baseline[device][i].iova;

        if (iova >= range->first && iova <= range->last)
            return true;
    }
    return false;
}

enum harness_expect harness_expected(struct harness *harness, unsigned device, uint64_t iova)
{
    if (rules_untranslated(harness->policy, device))
        return HARNESS_EXPECT_ANY;
    if (harness_told(harness, device, iova))
        return HARNESS_EXPECT_ANY;
    for (unsigned other = 0; other < harness->policy->guest.ndevices; other++) {
        if (other != device && rules_same_domain(harness->policy, device, other) &&
            harness_told(harness, other, iova))
            return HARNESS_EXPECT_ANY;
    }
    return HARNESS_EXPECT_DENY;
}

/* ---- Requests ------------------------------------------------------------------ */

/* What came of a request. */
struct harness_outcome {
    enum dma_direction direction;
    struct dma_outcome seen;  /* by the device */
    uint64_t nfaults;         /* records of faults */
    struct iommu_fault fault; /* the last one */
};

/* What the dma handle, the device and the fault record must say of a request. */
static void harness_check_outcome(const struct harness *harness, struct matrix_cell *cell,
                                  const struct harness_request *request,
                                  const struct harness_outcome *outcome)
{
    const char *way = outcome->direction == DMA_READ ? "read" : "write";
    uint32_t endpoint = rules_device(harness->policy, request->device)->endpoint;
    const struct dma_outcome *seen = &outcome->seen;
    const struct iommu_fault *fault = &outcome->fault;

    if (request->expect == HARNESS_EXPECT_ALLOW) {
        harness_check(cell, !seen->error && seen->done == request->len,
                      "%s of %llu bytes at 0x%llx: expected to pass, observed error %d after %llu",
                      way, (unsigned long long)request->len, (unsigned long long)request->iova,
                      -seen->error, (unsigned long long)seen->done);
        harness_check(cell, outcome->nfaults == 0,
                      "%s at 0x%llx passed: expected no fault, observed %llu", way,
                      (unsigned long long)request->iova, (unsigned long long)outcome->nfaults);
    } else if (request->expect == HARNESS_EXPECT_DENY) {
        harness_check(
            cell, seen->error < 0 && seen->done == 0,
            "%s at 0x%llx: the device must see an error and nothing done, observed %d, %llu "
            "bytes",
            way, (unsigned long long)request->iova, -seen->error, (unsigned long long)seen->done);
        if (!harness->iommu)
            return;
        harness_check(
            cell,
            outcome->nfaults == 1 && fault->endpoint == endpoint && fault->iova == request->iova &&
                fault->access == (uint32_t)outcome->direction,
            "fault record: expected 1 of endpoint %u, address 0x%llx, %s; observed %llu, "
            "endpoint %u, address 0x%llx, access %u",
            endpoint, (unsigned long long)request->iova, way, (unsigned long long)outcome->nfaults,
            fault->endpoint, (unsigned long long)fault->iova, fault->access);
    }
}

static void harness_perform(struct harness *harness, struct matrix_cell *cell,
                            const struct harness_request *request, enum dma_direction direction,
                            void *data)
{
    const struct dma_request on_the_bus = {
        .iova = request->iova,
        .len = request->len,
        .direction = direction,
        .data = data,
        .translated = request->translated,
        .claims = request->claims,
        .requester = request->requester,
    };
    struct harness_outcome outcome = { .direction = direction };
    uint64_t before = harness_faults(harness, NULL);

    dma_perform(harness->dma[request->device], &on_the_bus, &outcome.seen);
    outcome.nfaults = harness_faults(harness, &outcome.fault) - before;
    harness_check_outcome(harness, cell, request, &outcome);
}

/* Bytes in whole words that are as in the expected bytes: chance does not make a word. */
static uint64_t harness_same_bytes(const uint8_t *data, const uint8_t *expected_bytes, uint64_t len)
{
    uint64_t same = 0;

    if (!memcmp(data, expected_bytes, len))
        return len;
    for (uint64_t at = 0; at + 8 <= len; at += 8) {
        if (!memcmp(data + at, expected_bytes + at, 8))
            same += 8;
    }
    return same;
}

static uint64_t harness_changed_bytes(const uint8_t *data, const uint8_t *expected_bytes,
                                      uint64_t len)
{
    uint64_t changed = 0;

    if (!memcmp(data, expected_bytes, len))
        return 0;
    for (uint64_t at = 0; at < len; at++)
        changed += data[at] != expected_bytes[at];
    return changed;
}

uint64_t harness_read(struct harness *harness, struct matrix_cell *cell,
                      const struct harness_request *request, const uint8_t *expected_bytes)
{
    uint8_t data[ATTACK_PAGE_BYTES];

    for (uint64_t at = 0; at < request->len; at++)
        data[at] = (uint8_t)~expected_bytes[at];
    harness_perform(harness, cell, request, DMA_READ, data);
    /* Whatever the device says came through: the buffer tells. */
    return harness_same_bytes(data, expected_bytes, request->len);
}

#define HITS_MAX 3

/* Where a request may get to, by what it is and by what it says of itself. */
static unsigned harness_may_hit(struct harness *harness, const struct harness_request *request,
                                uint8_t *hit[HITS_MAX])
{
    unsigned n = 0;

    for (unsigned device = 0; device < harness->policy->guest.ndevices; device++) {
        if (device != request->device &&
            (!request->claims ||
             rules_device(harness->policy, device)->endpoint != request->requester))
            continue;
        hit[n] = harness_host(harness, device, request->iova, request->len);
        n += hit[n] != NULL;
    }
    hit[n] = request->translated ? memory_at(harness->memory, request->iova, request->len) : NULL;
    return n + (hit[n] != NULL);
}

uint64_t harness_write(struct harness *harness, struct matrix_cell *cell,
                       const struct harness_request *request, const struct harness_victim *victim)
{
    uint8_t data[ATTACK_PAGE_BYTES], before[HITS_MAX][ATTACK_PAGE_BYTES];
    uint8_t saved[HARNESS_PLACES_MAX][ATTACK_PAGE_BYTES];
    /* An address may also lead to something that has nothing to do with the victim. */
    uint8_t *hit[HITS_MAX];
    unsigned nhits = harness_may_hit(harness, request, hit);
    uint64_t changed = 0;

    for (unsigned i = 0; i < nhits; i++)
        memcpy(before[i], hit[i], request->len);
    for (unsigned i = 0; i < victim->nplaces; i++)
        memcpy(saved[i], victim->place[i], victim->len);
    for (uint64_t at = 0; at < request->len; at++)
        data[at] = (uint8_t)~victim->expected_bytes[at];
    harness_perform(harness, cell, request, DMA_WRITE, data);
    for (unsigned i = 0; i < victim->nplaces; i++) {
        uint64_t here = harness_changed_bytes(victim->place[i], saved[i], victim->len);

        if (here > changed)
            changed = here;
        if (here)
            memcpy(victim->place[i], saved[i], victim->len);
    }
    for (unsigned i = 0; i < nhits; i++)
        memcpy(hit[i], before[i], request->len);
    return changed;
}

void harness_attack(struct harness *harness, struct matrix_cell *cell,
                    const struct harness_request *spoofed, const struct harness_victim *victim,
                    uint32_t wanted)
{
    uint64_t read = 0, written = 0;

    for (unsigned i = 0; i < victim->naddresses; i++) {
        struct harness_request request = *spoofed;
        uint64_t got;

        request.iova = victim->address[i];
        request.len = victim->len;
        if (request.expect == HARNESS_EXPECT_DENY)
            request.expect = harness_expected(harness, request.device, request.iova);
        request.requester = victim->owner[i];
        request.claims = spoofed->claims && request.requester != HARNESS_NOBODY;
        if (wanted & RULES_READ) {
            got = harness_read(harness, cell, &request, victim->expected_bytes);
            read = got > read ? got : read;
        }
        if (wanted & RULES_WRITE) {
            got = harness_write(harness, cell, &request, victim);
            written = got > written ? got : written;
        }
    }
    cell->observed.read_bytes += read;
    cell->observed.write_bytes += written;
    harness_conclude(cell);
}

/* ---- Victims -------------------------------------------------------------------- */

void harness_victim_add(struct harness_victim *victim, uint64_t address, uint32_t owner)
{
    for (unsigned i = 0; i < victim->naddresses; i++) {
        if (victim->address[i] == address && victim->owner[i] == owner)
            return;
    }
    if (victim->naddresses == HARNESS_ADDRESSES)
        return;
    victim->owner[victim->naddresses] = owner;
    victim->address[victim->naddresses++] = address;
}

void harness_victim_page(struct harness_victim *victim, struct harness_page *page)
{
    *victim = (struct harness_victim){ .expected_bytes = page->expected_bytes,
                                       .len = ATTACK_PAGE_BYTES,
                                       .place = { page->host },
                                       .nplaces = 1,
                                       .address = { page->gpa },
                                       .owner = { HARNESS_NOBODY },
                                       .naddresses = 1 };
}

/* A device's copy of the page: a place too, if it goes back, and others may reach it. */
static void harness_add_copy(struct harness *harness, struct harness_victim *victim, uint64_t gpa,
                             bool goes_back)
{
    uint8_t *copy = memory_at(harness->memory, gpa, ATTACK_PAGE_BYTES);

    if (!copy || copy == victim->place[0])
        return;
    if (goes_back && victim->nplaces < HARNESS_PLACES_MAX)
        victim->place[victim->nplaces++] = copy;
    for (unsigned device = 0; device < harness->policy->guest.ndevices; device++) {
        uint64_t iova;

        if (harness_iova_of(harness, device, gpa, &iova))
            harness_victim_add(victim, iova, rules_device(harness->policy, device)->endpoint);
    }
}

void harness_victim_region(struct harness *harness, struct harness_victim *victim, unsigned region,
                           unsigned k)
{
    harness_victim_page(victim, &harness->test_pages[harness->first_page[region] + k]);
    for (unsigned device = 0; device < harness->policy->guest.ndevices; device++) {
        const struct abi_policy_device *d = rules_device(harness->policy, device);

        for (unsigned use = 0; use < d->nuses; use++) {
            uint64_t iova = harness->iova[device][use][k], gpa;

            if (d->use[use].region != region || !iova)
                continue;
            harness_victim_add(victim, iova, d->endpoint);
            if (harness_find_gpa(harness, device, iova, ATTACK_PAGE_BYTES, &gpa))
                harness_add_copy(harness, victim, gpa, d->use[use].rights & RULES_WRITE);
        }
    }
}
