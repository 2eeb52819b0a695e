#include "vmm/dma/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "devices/core/board.h"
#include "vmm/machine/vm.h"

uint64_t lab_random(struct lab *lab)
{
    uint64_t value = lab->random += 0x9e3779b97f4a7c15ull;

    /* SplitMix64 (Steele, Lea and Flood, 2014). */
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

void lab_random_fill(struct lab *lab, void *to, size_t bytes)
{
    uint8_t *at = to;

    while (bytes) {
        uint64_t value = lab_random(lab);
        size_t n = bytes < sizeof(value) ? bytes : sizeof(value);

        memcpy(at, &value, n);
        at += n;
        bytes -= n;
    }
}

void lab_sleep_ms(unsigned ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

    nanosleep(&time, NULL);
}

bool lab_check(struct lab_cell *cell, bool ok, const char *format, ...)
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

void lab_merge(struct lab_cell *cell, const struct lab_cell *part)
{
    if (part->failed && !cell->failed)
        memcpy(cell->failure, part->failure, sizeof(cell->failure));
    cell->checks += part->checks;
    cell->failed += part->failed;
}

void lab_conclude(struct lab_cell *cell)
{
    if (cell->observed.read_bytes || cell->observed.write_bytes)
        cell->observed.succeeds = true;
}

uint64_t lab_faults(struct lab *lab, struct iommu_fault *last)
{
    uint64_t count;

    pthread_mutex_lock(&lab->faults_lock);
    count = lab->nfaults;
    if (last && count)
        *last = lab->faults[(count - 1) % LAB_FAULTS_MAX];
    pthread_mutex_unlock(&lab->faults_lock);
    return count;
}

/* ---- Where addresses lead ---------------------------------------------------- */

struct lab_lookup {
    uint64_t iova, len, gpa;
    bool found, whole;
};

static void lab_look(void *owner, struct iommu_range iova, uint64_t gpa, uint32_t rights)
{
    struct lab_lookup *lookup = owner;

    (void)rights;
    if (lookup->iova < iova.first || lookup->iova > iova.last)
        return;
    lookup->found = true;
    lookup->gpa = gpa + (lookup->iova - iova.first);
    lookup->whole = iova.last - lookup->iova >= lookup->len - 1;
}

/* Where an address of the device leads: false if nowhere, or not for all of len. */
static bool lab_find_gpa(struct lab *lab, unsigned device, uint64_t iova, uint64_t len,
                         uint64_t *gpa)
{
    struct lab_lookup lookup = { .iova = iova, .len = len };
    bool bypass = !lab->iommu;

    if (lab->iommu && iommu_each_mapping(lab->iommu, rules_device(lab->policy, device)->endpoint,
                                         &bypass, lab_look, &lookup))
        return false;
    *gpa = bypass ? iova : lookup.gpa;
    return bypass || (lookup.found && lookup.whole);
}

uint8_t *lab_host(struct lab *lab, unsigned device, uint64_t iova, uint64_t len)
{
    uint64_t gpa;

    return lab_find_gpa(lab, device, iova, len, &gpa) ? memory_at(lab->memory, gpa, len) : NULL;
}

bool lab_mapped(struct lab *lab, unsigned device, uint64_t iova)
{
    struct lab_lookup lookup = { .iova = iova, .len = 1 };
    bool bypass = !lab->iommu;

    if (lab->iommu && iommu_each_mapping(lab->iommu, rules_device(lab->policy, device)->endpoint,
                                         &bypass, lab_look, &lookup))
        return false;
    return bypass || lookup.found;
}

static void lab_look_back(void *owner, struct iommu_range iova, uint64_t gpa, uint32_t rights)
{
    struct lab_lookup *lookup = owner;

    (void)rights;
    if (lookup->found || lookup->gpa < gpa || lookup->gpa - gpa > iova.last - iova.first)
        return;
    lookup->found = true;
    lookup->iova = iova.first + (lookup->gpa - gpa);
}

bool lab_iova_of(struct lab *lab, unsigned device, uint64_t gpa, uint64_t *iova)
{
    struct lab_lookup lookup = { .gpa = gpa };
    bool bypass;

    if (!lab->iommu || iommu_each_mapping(lab->iommu, rules_device(lab->policy, device)->endpoint,
                                          &bypass, lab_look_back, &lookup))
        return false;
    *iova = lookup.iova;
    return lookup.found && !bypass;
}

/* Whether a mapping of this device, as far as the guest told of it, covers the address. */
static bool lab_told(const struct lab *lab, unsigned device, uint64_t iova)
{
    const struct abi_policy_device *d = rules_device(lab->policy, device);

    for (unsigned use = 0; use < d->nuses; use++) {
        for (unsigned k = 0; k < RULES_REGION_PAGES; k++) {
            uint64_t at = lab->iova[device][use][k];

            if (at && iova / ATTACK_PAGE_BYTES == at / ATTACK_PAGE_BYTES)
                return true;
        }
    }
    for (unsigned i = 0; i < lab->nbaseline[device]; i++) {
        const struct iommu_range *range = &lab->baseline[device][i].iova;

        if (iova >= range->first && iova <= range->last)
            return true;
    }
    return false;
}

enum lab_gate lab_gate(struct lab *lab, unsigned device, uint64_t iova)
{
    if (rules_untranslated(lab->policy, device))
        return LAB_ANY;
    if (lab_told(lab, device, iova))
        return LAB_ANY;
    for (unsigned other = 0; other < lab->policy->guest.ndevices; other++) {
        if (other != device && rules_same_domain(lab->policy, device, other) &&
            lab_told(lab, other, iova))
            return LAB_ANY;
    }
    return LAB_SHUT;
}

/* ---- Requests ------------------------------------------------------------------ */

/* What the dma handle, the device and the fault record must say of a request. */
static void lab_check_outcome(struct lab *lab, struct lab_cell *cell,
                              const struct lab_request *request, enum dma_direction direction,
                              const struct dma_outcome *outcome, uint64_t faults_before)
{
    const char *way = direction == DMA_READ ? "read" : "write";
    uint32_t endpoint = rules_device(lab->policy, request->device)->endpoint;
    struct iommu_fault fault = { 0 };
    uint64_t faults = lab_faults(lab, &fault) - faults_before;

    if (request->gate == LAB_OPEN) {
        lab_check(cell, !outcome->error && outcome->done == request->len,
                  "%s of %llu bytes at 0x%llx: expected to pass, observed error %d after %llu", way,
                  (unsigned long long)request->len, (unsigned long long)request->iova,
                  -outcome->error, (unsigned long long)outcome->done);
        lab_check(cell, faults == 0, "%s at 0x%llx passed: expected no fault, observed %llu", way,
                  (unsigned long long)request->iova, (unsigned long long)faults);
    } else if (request->gate == LAB_SHUT) {
        lab_check(cell, outcome->error < 0 && outcome->done == 0,
                  "%s at 0x%llx: the device must see an error and nothing done, observed %d, %llu "
                  "bytes",
                  way, (unsigned long long)request->iova, -outcome->error,
                  (unsigned long long)outcome->done);
        if (!lab->iommu)
            return;
        lab_check(cell,
                  faults == 1 && fault.endpoint == endpoint && fault.iova == request->iova &&
                      fault.access == (uint32_t)direction,
                  "fault record: expected 1 of endpoint %u, address 0x%llx, %s; observed %llu, "
                  "endpoint %u, address 0x%llx, access %u",
                  endpoint, (unsigned long long)request->iova, way, (unsigned long long)faults,
                  fault.endpoint, (unsigned long long)fault.iova, fault.access);
    }
}

static void lab_perform(struct lab *lab, struct lab_cell *cell, const struct lab_request *request,
                        enum dma_direction direction, void *data, struct dma_outcome *outcome)
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
    uint64_t before = lab_faults(lab, NULL);

    dma_perform(lab->dma[request->device], &on_the_bus, outcome);
    lab_check_outcome(lab, cell, request, direction, outcome, before);
}

/* Bytes in whole words that are as in the truth: chance does not make a word. */
static uint64_t lab_same_bytes(const uint8_t *data, const uint8_t *truth, uint64_t len)
{
    uint64_t same = 0;

    if (!memcmp(data, truth, len))
        return len;
    for (uint64_t at = 0; at + 8 <= len; at += 8) {
        if (!memcmp(data + at, truth + at, 8))
            same += 8;
    }
    return same;
}

static uint64_t lab_changed_bytes(const uint8_t *data, const uint8_t *truth, uint64_t len)
{
    uint64_t changed = 0;

    if (!memcmp(data, truth, len))
        return 0;
    for (uint64_t at = 0; at < len; at++)
        changed += data[at] != truth[at];
    return changed;
}

uint64_t lab_read(struct lab *lab, struct lab_cell *cell, const struct lab_request *request,
                  const uint8_t *truth)
{
    uint8_t data[ATTACK_PAGE_BYTES];
    struct dma_outcome outcome;

    for (uint64_t at = 0; at < request->len; at++)
        data[at] = (uint8_t)~truth[at];
    lab_perform(lab, cell, request, DMA_READ, data, &outcome);
    /* Whatever the device says came through: the buffer tells. */
    return lab_same_bytes(data, truth, request->len);
}

#define HITS_MAX 3

/* Where a request may get to, by what it is and by what it says of itself. */
static unsigned lab_may_hit(struct lab *lab, const struct lab_request *request,
                            uint8_t *hit[HITS_MAX])
{
    unsigned n = 0;

    for (unsigned device = 0; device < lab->policy->guest.ndevices; device++) {
        if (device != request->device &&
            (!request->claims || rules_device(lab->policy, device)->endpoint != request->requester))
            continue;
        hit[n] = lab_host(lab, device, request->iova, request->len);
        n += hit[n] != NULL;
    }
    hit[n] = request->translated ? memory_at(lab->memory, request->iova, request->len) : NULL;
    return n + (hit[n] != NULL);
}

uint64_t lab_write(struct lab *lab, struct lab_cell *cell, const struct lab_request *request,
                   const struct lab_victim *victim)
{
    uint8_t data[ATTACK_PAGE_BYTES], before[HITS_MAX][ATTACK_PAGE_BYTES];
    uint8_t saved[LAB_PLACES_MAX][ATTACK_PAGE_BYTES];
    /* An address may also lead to something that has nothing to do with the victim. */
    uint8_t *hit[HITS_MAX];
    unsigned nhits = lab_may_hit(lab, request, hit);
    struct dma_outcome outcome;
    uint64_t changed = 0;

    for (unsigned i = 0; i < nhits; i++)
        memcpy(before[i], hit[i], request->len);
    for (unsigned i = 0; i < victim->nplaces; i++)
        memcpy(saved[i], victim->place[i], victim->len);
    for (uint64_t at = 0; at < request->len; at++)
        data[at] = (uint8_t)~victim->truth[at];
    lab_perform(lab, cell, request, DMA_WRITE, data, &outcome);
    for (unsigned i = 0; i < victim->nplaces; i++) {
        uint64_t here = lab_changed_bytes(victim->place[i], saved[i], victim->len);

        if (here > changed)
            changed = here;
        if (here)
            memcpy(victim->place[i], saved[i], victim->len);
    }
    for (unsigned i = 0; i < nhits; i++)
        memcpy(hit[i], before[i], request->len);
    return changed;
}

void lab_attack(struct lab *lab, struct lab_cell *cell, const struct lab_request *forged,
                const struct lab_victim *victim, uint32_t wanted)
{
    uint64_t read = 0, written = 0;

    for (unsigned i = 0; i < victim->naddresses; i++) {
        struct lab_request request = *forged;
        uint64_t got;

        request.iova = victim->address[i];
        request.len = victim->len;
        if (request.gate == LAB_SHUT)
            request.gate = lab_gate(lab, request.device, request.iova);
        request.requester = victim->owner[i];
        request.claims = forged->claims && request.requester != LAB_NOBODY;
        if (wanted & RULES_READ) {
            got = lab_read(lab, cell, &request, victim->truth);
            read = got > read ? got : read;
        }
        if (wanted & RULES_WRITE) {
            got = lab_write(lab, cell, &request, victim);
            written = got > written ? got : written;
        }
    }
    cell->observed.read_bytes += read;
    cell->observed.write_bytes += written;
    lab_conclude(cell);
}

/* ---- Victims -------------------------------------------------------------------- */

void lab_victim_add(struct lab_victim *victim, uint64_t address, uint32_t owner)
{
    for (unsigned i = 0; i < victim->naddresses; i++) {
        if (victim->address[i] == address && victim->owner[i] == owner)
            return;
    }
    if (victim->naddresses == LAB_ADDRESSES)
        return;
    victim->owner[victim->naddresses] = owner;
    victim->address[victim->naddresses++] = address;
}

void lab_victim_page(struct lab_victim *victim, struct lab_page *page)
{
    *victim = (struct lab_victim){ .truth = page->truth,
                                   .len = ATTACK_PAGE_BYTES,
                                   .place = { page->host },
                                   .nplaces = 1,
                                   .address = { page->gpa },
                                   .owner = { LAB_NOBODY },
                                   .naddresses = 1 };
}

/* A device's copy of the page: a place too, if it goes back, and others may reach it. */
static void lab_add_copy(struct lab *lab, struct lab_victim *victim, uint64_t gpa, bool goes_back)
{
    uint8_t *copy = memory_at(lab->memory, gpa, ATTACK_PAGE_BYTES);

    if (!copy || copy == victim->place[0])
        return;
    if (goes_back && victim->nplaces < LAB_PLACES_MAX)
        victim->place[victim->nplaces++] = copy;
    for (unsigned device = 0; device < lab->policy->guest.ndevices; device++) {
        uint64_t iova;

        if (lab_iova_of(lab, device, gpa, &iova))
            lab_victim_add(victim, iova, rules_device(lab->policy, device)->endpoint);
    }
}

void lab_victim_region(struct lab *lab, struct lab_victim *victim, unsigned region, unsigned k)
{
    lab_victim_page(victim, &lab->arena[lab->first_page[region] + k]);
    for (unsigned device = 0; device < lab->policy->guest.ndevices; device++) {
        const struct abi_policy_device *d = rules_device(lab->policy, device);

        for (unsigned use = 0; use < d->nuses; use++) {
            uint64_t iova = lab->iova[device][use][k], gpa;

            if (d->use[use].region != region || !iova)
                continue;
            lab_victim_add(victim, iova, d->endpoint);
            if (lab_find_gpa(lab, device, iova, ATTACK_PAGE_BYTES, &gpa))
                lab_add_copy(lab, victim, gpa, d->use[use].rights & RULES_WRITE);
        }
    }
}
