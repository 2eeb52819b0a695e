#include "devices/iommu/iommu.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/dma_segment.h"
#include "devices/iommu/endpoint.h"
#include "devices/iommu/faults.h"
#include "devices/iommu/unit.h"

#define PAGE_SIZES         (1ull << 12 | 1ull << 21 | 1ull << 30)
#define DOMAINS_MAX        1024
#define MAPPINGS_MAX       (4ull << 20)
#define MAPPINGS_OF_DOMAIN (1ull << 20)
#define FAULTS_MAX         64
#define TABLE_BYTES_MAX    (64ull << 20)
#define TABLE_BYTES        4096ull

static void fill_in(struct iommu_config *config)
{
    if (!config->page_size_mask)
        config->page_size_mask = PAGE_SIZES;
    if (!config->input.last)
        config->input.last = (1ull << 48) - 1;
    if (!config->domains.last)
        config->domains.last = UINT32_MAX;
    if (!config->domains_max)
        config->domains_max = DOMAINS_MAX;
    if (!config->mappings_max)
        config->mappings_max = MAPPINGS_MAX;
    if (!config->mappings_of_domain_max)
        config->mappings_of_domain_max = MAPPINGS_OF_DOMAIN;
    if (!config->faults_max)
        config->faults_max = FAULTS_MAX;
    if (!config->table_bytes_max)
        config->table_bytes_max = TABLE_BYTES_MAX;
}

static bool can_be(const struct iommu_config *config)
{
    return !(config->page_size_mask & (IOPT_PAGE_BYTES - 1)) &&
           config->input.first <= config->input.last &&
           config->domains.first <= config->domains.last && config->domains.last <= UINT32_MAX;
}

int iommu_create(struct iommu **made, const struct memory *memory,
                 const struct iommu_config *config)
{
    struct iommu *iommu = calloc(1, sizeof(*iommu));
    int err;

    if (!iommu)
        return -ENOMEM;
    iommu->memory = memory;
    iommu->config = *config;
    fill_in(&iommu->config);
    err = can_be(&iommu->config) ? 0 : -EINVAL;
    if (err)
        goto free_unit;
    atomic_init(&iommu->bypass, config->boot_bypass);
    iommu->tables.tables_max = iommu->config.table_bytes_max / TABLE_BYTES;
    err = pins_create(&iommu->pins, dma_ram_end(memory));
    if (err)
        goto free_unit;
    err = iommu_faults_create(&iommu->faults, iommu->config.faults_max);
    if (err)
        goto destroy_pins;
    pthread_mutex_init(&iommu->lock, NULL);
    *made = iommu;
    return 0;

destroy_pins:
    pins_destroy(&iommu->pins);
free_unit:
    free(iommu);
    return err;
}

void iommu_on_settle(struct iommu *iommu, void (*settle)(void *owner, struct vm_thread *self),
                     void *owner)
{
    iommu->settle = settle;
    iommu->settle_owner = owner;
}

void iommu_settle(struct iommu *iommu, struct vm_thread *self)
{
    if (iommu->settle)
        iommu->settle(iommu->settle_owner, self);
}

void iommu_destroy(struct iommu *iommu)
{
    while (iommu->nendpoints)
        iommu_remove_endpoint(iommu->endpoint[0]);
    iommu_faults_destroy(&iommu->faults);
    pins_destroy(&iommu->pins);
    pthread_mutex_destroy(&iommu->lock);
    free(iommu);
}

const struct iommu_config *iommu_config(const struct iommu *iommu)
{
    return &iommu->config;
}

/* With the unit's lock. */
static void set_bypass(struct iommu *iommu, bool bypass)
{
    atomic_store(&iommu->bypass, bypass);
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        if (!iommu->endpoint[i]->domain)
            iommu_set_domain(iommu->endpoint[i], NULL, iommu_unattached_mode(iommu));
    }
}

void iommu_set_bypass(struct iommu *iommu, bool bypass)
{
    pthread_mutex_lock(&iommu->lock);
    set_bypass(iommu, bypass);
    pthread_mutex_unlock(&iommu->lock);
}

bool iommu_bypass(const struct iommu *iommu)
{
    return atomic_load(&iommu->bypass);
}

void iommu_reset(struct iommu *iommu, bool bypass_too)
{
    pthread_mutex_lock(&iommu->lock);
    for (unsigned i = 0; i < iommu->nendpoints; i++)
        iommu_leave(iommu->endpoint[i]);
    if (bypass_too)
        set_bypass(iommu, iommu->config.boot_bypass);
    iommu_faults_forget(&iommu->faults);
    pthread_mutex_unlock(&iommu->lock);
}

bool iommu_pinned(const struct iommu *iommu, uint64_t gpa, uint64_t len)
{
    return pins_any(&iommu->pins, gpa, len);
}

void iommu_count(const struct iommu *iommu, struct iommu_counts *counts)
{
    struct iommu *unit = (struct iommu *)iommu; /* to lock it */

    *counts = (struct iommu_counts){ 0 };
    pthread_mutex_lock(&unit->faults.lock);
    counts->faults = unit->faults.count;
    counts->faults_dropped = unit->faults.dropped;
    pthread_mutex_unlock(&unit->faults.lock);

    pthread_mutex_lock(&unit->lock);
    for (unsigned i = 0; i < unit->nendpoints; i++) {
        counts->tlb_hits += atomic_load_explicit(&unit->endpoint[i]->tlb_hits,
                                                 memory_order_relaxed);
        counts->tlb_misses += atomic_load_explicit(&unit->endpoint[i]->tlb_misses,
                                                   memory_order_relaxed);
    }
    counts->maps = unit->maps;
    counts->unmaps = unit->unmaps;
    counts->invalidations = unit->invalidations;
    counts->domains = unit->ndomains;
    counts->mappings = unit->mappings;
    counts->table_bytes = unit->tables.tables * TABLE_BYTES;
    counts->pinned_pages = atomic_load_explicit(&unit->pins.pinned, memory_order_relaxed);
    pthread_mutex_unlock(&unit->lock);
}

int iommu_each_mapping(struct iommu *iommu, uint32_t id, bool *bypass,
                       void (*visit)(void *owner, const struct iommu_mapping *mapping), void *owner)
{
    const struct iommu_endpoint *endpoint;
    const struct iommu_domain *domain;

    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (endpoint) {
        domain = endpoint->domain;
        *bypass = endpoint->mode == IOMMU_BYPASS;
        if (endpoint->mode == IOMMU_TRANSLATED && domain->ops->each)
            domain->ops->each(domain, visit, owner);
    }
    pthread_mutex_unlock(&iommu->lock);
    return endpoint ? 0 : -ENOENT;
}
