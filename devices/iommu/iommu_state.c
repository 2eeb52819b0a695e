#include "devices/iommu/iommu_state.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/unit.h"

static int state_allocate(struct iommu_saved *saved)
{
    const struct iommu_state *state = &saved->state;

    /* One more of each: NULL means that there is no memory. */
    saved->endpoints = calloc(state->nendpoints + 1ull, sizeof(*saved->endpoints));
    saved->domains = calloc(state->ndomains + 1ull, sizeof(*saved->domains));
    saved->mappings = calloc(state->nmappings + 1ull, sizeof(*saved->mappings));
    saved->faults = calloc(state->nfaults + 1ull, sizeof(*saved->faults));
    return saved->endpoints && saved->domains && saved->mappings && saved->faults ? 0 : -ENOMEM;
}

/* Where the next mapping of a domain goes. */
struct state_cursor {
    struct iommu_state_mapping *next;
    uint32_t domain;
};

static void state_add_mapping(void *owner, const struct iommu_mapping *mapping)
{
    struct state_cursor *cursor = owner;

    *cursor->next++ = (struct iommu_state_mapping){
        .first = mapping->iova.first,
        .last = mapping->iova.last,
        .gpa = mapping->gpa,
        .domain = cursor->domain,
        .prot = mapping->prot,
    };
}

/* With the unit's lock. */
static void state_save_domains(const struct iommu *iommu, struct iommu_saved *saved)
{
    struct state_cursor cursor = { .next = saved->mappings };
    struct iommu_state_domain *to = saved->domains;

    for (const struct iommu_domain *domain = iommu->domains; domain; domain = domain->next) {
        *to++ = (struct iommu_state_domain){
            .id = domain->id,
            .bypass = domain->mode == IOMMU_BYPASS,
        };
        cursor.domain = domain->id;
        if (domain->ops->each)
            domain->ops->each(domain, state_add_mapping, &cursor);
    }
}

/* With the unit's lock. A domain that is found by no number is a front end's. */
static int state_save_endpoints(const struct iommu *iommu, struct iommu_saved *saved)
{
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        const struct iommu_endpoint *endpoint = iommu->endpoint[i];
        const struct iommu_domain *domain = iommu->domains;

        while (domain && domain != endpoint->domain)
            domain = domain->next;
        if (domain != endpoint->domain)
            return -EOPNOTSUPP;
        saved->endpoints[i] = (struct iommu_state_endpoint){
            .id = endpoint->id,
            .attached = domain != NULL,
            .domain = domain ? domain->id : 0,
        };
    }
    return 0;
}

static void state_save_faults(const struct iommu_faults *faults, struct iommu_saved *saved)
{
    for (uint32_t i = 0; i < saved->state.nfaults; i++) {
        const struct iommu_fault *fault = &faults->ring[(faults->head + i) % faults->size];

        saved->faults[i] = (struct iommu_state_fault){
            .code = fault->code,
            .access = fault->access,
            .endpoint = fault->endpoint,
            .detail = fault->detail,
            .iova = fault->iova,
        };
    }
}

int iommu_save(struct iommu *iommu, struct iommu_saved *saved)
{
    int err;

    pthread_mutex_lock(&iommu->lock);
    pthread_mutex_lock(&iommu->faults.lock);
    *saved = (struct iommu_saved){ .state = {
                                       .version = IOMMU_STATE_VERSION,
                                       .bypass = atomic_load(&iommu->bypass),
                                       .page_size_mask = iommu->config.page_size_mask,
                                       .input = iommu->config.input,
                                       .domains = iommu->config.domains,
                                       .nendpoints = iommu->nendpoints,
                                       .ndomains = iommu->ndomains,
                                       .nfaults = iommu->faults.used,
                                       .nmappings = iommu->mappings,
                                   } };
    err = state_allocate(saved);
    if (!err)
        err = state_save_endpoints(iommu, saved);
    if (!err) {
        state_save_domains(iommu, saved);
        state_save_faults(&iommu->faults, saved);
    }
    pthread_mutex_unlock(&iommu->faults.lock);
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

void iommu_saved_free(struct iommu_saved *saved)
{
    free(saved->endpoints);
    free(saved->domains);
    free(saved->mappings);
    free(saved->faults);
    *saved = (struct iommu_saved){ 0 };
}

static bool state_same_range(const struct iommu_range *a, const struct iommu_range *b)
{
    return a->first == b->first && a->last == b->last;
}

/* Whether the state is of a unit such as this one. */
static bool state_fits(const struct iommu *iommu, const struct iommu_saved *saved)
{
    const struct iommu_state *state = &saved->state;

    if (state->version != IOMMU_STATE_VERSION || state->bypass > 1 ||
        state->page_size_mask != iommu->config.page_size_mask ||
        !state_same_range(&state->input, &iommu->config.input) ||
        !state_same_range(&state->domains, &iommu->config.domains) ||
        state->nendpoints != iommu->nendpoints || state->nfaults > iommu->faults.size)
        return false;
    for (uint32_t i = 0; i < state->nendpoints; i++) {
        if (saved->endpoints[i].attached > 1)
            return false;
    }
    for (uint32_t i = 0; i < state->nfaults; i++) {
        if (saved->faults[i].code == IOMMU_FAULT_NONE || saved->faults[i].code >= IOMMU_FAULT_CODES)
            return false;
    }
    return true;
}

static const struct iommu_state_domain *state_domain(const struct iommu_saved *saved, uint32_t id)
{
    for (uint32_t i = 0; i < saved->state.ndomains; i++) {
        if (saved->domains[i].id == id)
            return &saved->domains[i];
    }
    return NULL;
}

/* As the guest did it: attached, then mapped. What is mapped twice, or nowhere, is refused. */
static int state_load_domains(struct iommu *iommu, const struct iommu_saved *saved)
{
    int err = 0;

    for (uint32_t i = 0; i < saved->state.nendpoints && !err; i++) {
        const struct iommu_state_endpoint *endpoint = &saved->endpoints[i];
        const struct iommu_state_domain *domain = state_domain(saved, endpoint->domain);

        if (!endpoint->attached)
            continue;
        err = domain ? iommu_attach(iommu, endpoint->id, endpoint->domain, domain->bypass)
                     : -EINVAL;
    }
    for (uint64_t i = 0; i < saved->state.nmappings && !err; i++) {
        const struct iommu_state_mapping *mapping = &saved->mappings[i];

        err = iommu_map(iommu, mapping->domain, mapping->first, mapping->last, mapping->gpa,
                        mapping->prot);
    }
    if (!err && iommu->ndomains != saved->state.ndomains)
        err = -EINVAL;
    return err == 0 || err == -ENOMEM ? err : -EINVAL;
}

static void state_load_faults(struct iommu_faults *faults, const struct iommu_saved *saved)
{
    pthread_mutex_lock(&faults->lock);
    faults->head = 0;
    faults->used = saved->state.nfaults;
    for (uint32_t i = 0; i < saved->state.nfaults; i++) {
        const struct iommu_state_fault *fault = &saved->faults[i];

        faults->ring[i] = (struct iommu_fault){
            .code = (enum iommu_fault_code)fault->code,
            .access = fault->access & (IOMMU_READ | IOMMU_WRITE),
            .endpoint = fault->endpoint,
            .detail = fault->detail,
            .iova = fault->iova,
        };
    }
    pthread_mutex_unlock(&faults->lock);
}

int iommu_load(struct iommu *iommu, const struct iommu_saved *saved)
{
    int err;

    iommu_reset(iommu, true);
    if (!state_fits(iommu, saved))
        return -EINVAL;
    iommu_set_bypass(iommu, saved->state.bypass);
    err = state_load_domains(iommu, saved);
    if (err)
        iommu_reset(iommu, true);
    else
        state_load_faults(&iommu->faults, saved);
    return err;
}
