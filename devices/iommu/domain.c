/* Domains: who is attached to them and what they map. */
#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/dma_segment.h"
#include "devices/iommu/unit.h"

#define PROT_ALL (IOMMU_READ | IOMMU_WRITE | IOMMU_MMIO)

static struct iommu_domain *find_domain(const struct iommu *iommu, uint32_t id)
{
    struct iommu_domain *domain = iommu->domains;

    while (domain && domain->id != id)
        domain = domain->next;
    return domain;
}

static int new_domain(struct iommu *iommu, uint32_t id, bool bypass, struct iommu_domain **made)
{
    struct iommu_domain *domain;
    int err = 0;

    if (iommu->ndomains >= iommu->config.domains_max)
        return -ENOMEM;
    domain = calloc(1, sizeof(*domain));
    if (!domain)
        return -ENOMEM;
    domain->id = id;
    domain->bypass = bypass;
    if (!bypass)
        err = iopt_create(&domain->iopt, iommu->config.input.last, iommu->config.page_size_mask,
                          &iommu->tables);
    if (err) {
        free(domain);
        return err;
    }
    domain->next = iommu->domains;
    iommu->domains = domain;
    iommu->ndomains++;
    *made = domain;
    return 0;
}

static bool pins(const struct iommu *iommu)
{
    return iommu_checks(iommu, IOMMU_CHECK_PIN);
}

static void pin(struct iommu *iommu, uint64_t gpa, uint64_t bytes)
{
    if (pins(iommu))
        pins_add(&iommu->pins, gpa, bytes);
}

static void unpin(void *owner, const struct iopt_leaf *leaf)
{
    struct iommu *iommu = owner;

    if (pins(iommu))
        pins_remove(&iommu->pins, leaf->gpa, leaf->bytes);
}

/*
 * Unmaps [first, last] in the order that makes it safe: no new walk finds it; what walks
 * found before is dropped and not in use; only then pages may move and tables are freed.
 */
static void unmap_range(struct iommu *iommu, struct iommu_domain *domain, uint64_t first,
                        uint64_t last, void (*cleared)(void *owner, const struct iopt_leaf *leaf))
{
    struct iopt *iopt = &domain->iopt;
    uint64_t before = iopt->mappings;

    iopt_unmap(iopt, first, last);
    iommu->mappings -= before - iopt->mappings;
    iommu_invalidate(iommu, domain, first, last);
    iopt_clear(iopt, first, last, cleared, iommu);
    if (iopt_has_unlinked(iopt)) {
        iommu_quiesce(iommu, domain);
        iopt_free_unlinked(iopt);
    }
}

static void drop_domain(struct iommu *iommu, struct iommu_domain *domain)
{
    struct iommu_domain **link = &iommu->domains;

    if (!domain->bypass) {
        unmap_range(iommu, domain, 0, domain->iopt.last, unpin);
        iopt_destroy(&domain->iopt);
    }
    while (*link != domain)
        link = &(*link)->next;
    *link = domain->next;
    iommu->ndomains--;
    free(domain);
}

void iommu_leave(struct iommu_endpoint *endpoint)
{
    struct iommu *iommu = endpoint->iommu;
    struct iommu_domain *domain = endpoint->domain;

    iommu_set_domain(endpoint, NULL, iommu_unattached_mode(iommu));
    if (domain && --domain->endpoints == 0)
        drop_domain(iommu, domain);
}

/* Whether the domain maps anything that is reserved for the endpoint. */
static bool maps_reserved(const struct iommu_domain *domain, const struct iommu_endpoint *endpoint)
{
    uint64_t end = domain->iopt.last;

    for (int i = 0; i < endpoint->nreserved; i++) {
        const struct iommu_range *range = &endpoint->reserved[i].range;

        if (range->first <= end &&
            iopt_any(&domain->iopt, range->first, range->last < end ? range->last : end))
            return true;
    }
    return false;
}

static int attach(struct iommu *iommu, struct iommu_endpoint *endpoint, uint32_t id, bool bypass)
{
    struct iommu_domain *domain = find_domain(iommu, id), *left = endpoint->domain;
    int err;

    if (domain && domain->bypass != bypass)
        return -EINVAL;
    if (domain && domain == left)
        return 0;
    if (domain && !bypass && maps_reserved(domain, endpoint) &&
        iommu_checks(iommu, IOMMU_CHECK_RESERVED))
        return -EOPNOTSUPP;
    if (!domain) {
        err = new_domain(iommu, id, bypass, &domain);
        if (err)
            return err;
    }
    domain->endpoints++;
    iommu_set_domain(endpoint, domain, bypass ? IOMMU_BYPASS : IOMMU_TRANSLATED);
    if (left && --left->endpoints == 0)
        drop_domain(iommu, left);
    return 0;
}

int iommu_attach(struct iommu *iommu, uint32_t id, uint32_t domain, bool bypass)
{
    struct iommu_endpoint *endpoint;
    int err;

    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (!endpoint)
        err = -ENOENT;
    else if (domain < iommu->config.domains.first || domain > iommu->config.domains.last)
        err = -ERANGE;
    else
        err = attach(iommu, endpoint, domain, bypass);
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

int iommu_detach(struct iommu *iommu, uint32_t id, uint32_t domain)
{
    struct iommu_endpoint *endpoint;
    int err = 0;

    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (!endpoint)
        err = -ENOENT;
    else if (!endpoint->domain || endpoint->domain->id != domain)
        err = -EINVAL;
    else if (iommu_checks(iommu, IOMMU_CHECK_DETACH))
        iommu_leave(endpoint);
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

static bool reserved(const struct iommu *iommu, const struct iommu_domain *domain, uint64_t first,
                     uint64_t last)
{
    if (!iommu_checks(iommu, IOMMU_CHECK_RESERVED))
        return false;
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        const struct iommu_endpoint *endpoint = iommu->endpoint[i];

        if (endpoint->domain != domain)
            continue;
        for (int k = 0; k < endpoint->nreserved; k++) {
            const struct iommu_range *range = &endpoint->reserved[k].range;

            if (first <= range->last && range->first <= last)
                return true;
        }
    }
    return false;
}

/* What a mapping may lead to: RAM; or, where nothing stops it, what is not RAM at all. */
static bool may_be_target(const struct iommu *iommu, uint64_t gpa, uint64_t len, uint32_t prot)
{
    if (!iommu_checks(iommu, IOMMU_CHECK_TARGET_END) &&
        gpa + len < gpa) /* looks at where it ends only */
        return dma_all_ram(iommu->memory, gpa + len - 1, 1);
    if (!len || gpa >= IOPT_GPA_LIMIT || len > IOPT_GPA_LIMIT - gpa)
        return false;
    if (dma_all_ram(iommu->memory, gpa, len))
        return true;
    return !iommu_checks(iommu, IOMMU_CHECK_PEER) && (prot & IOMMU_MMIO) &&
           !dma_any_ram(iommu->memory, gpa, len);
}

static bool over_quota(const struct iommu *iommu, const struct iommu_domain *domain)
{
    const struct iommu_config *config = &iommu->config;
    bool quota = iommu_checks(iommu, IOMMU_CHECK_QUOTA);

    return iommu->mappings >= config->mappings_max ||
           (quota && domain->iopt.mappings >= config->mappings_of_domain_max);
}

static int map(struct iommu *iommu, struct iommu_domain *domain, uint64_t first, uint64_t last,
               uint64_t gpa, uint32_t prot)
{
    const struct iommu_range *input = &iommu->config.input;
    uint64_t granule = iommu->config.page_size_mask & -iommu->config.page_size_mask;
    uint64_t before = domain->iopt.mappings;
    int err;

    if (domain->bypass || first > last || (prot & ~PROT_ALL))
        return -EINVAL;
    if ((first | (last + 1) | gpa) & (granule - 1))
        return -ERANGE;
    if (first < input->first || last > input->last)
        return -ERANGE;
    if (reserved(iommu, domain, first, last))
        return -EINVAL;
    if (!may_be_target(iommu, gpa, last - first + 1, prot))
        return -EINVAL;
    if (iopt_any(&domain->iopt, first, last))
        return -EINVAL;
    if (over_quota(iommu, domain))
        return -ENOMEM;

    /* Pinned before it can be reached, and until after it cannot be. */
    pin(iommu, gpa, last - first + 1);
    err = iopt_map(&domain->iopt, first, last, gpa, prot);
    iommu->mappings += domain->iopt.mappings - before;
    if (err) {
        /* A device may have found the part that was there. */
        unmap_range(iommu, domain, first, last, NULL);
        unpin(iommu, &(struct iopt_leaf){ .gpa = gpa, .bytes = last - first + 1 });
    }
    return err;
}

int iommu_map(struct iommu *iommu, uint32_t id, uint64_t first, uint64_t last, uint64_t gpa,
              uint32_t prot)
{
    struct iommu_domain *domain;
    int err;

    pthread_mutex_lock(&iommu->lock);
    domain = find_domain(iommu, id);
    err = domain ? map(iommu, domain, first, last, gpa, prot) : -ENOENT;
    iommu->maps += !err;
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

static int unmap(struct iommu *iommu, struct iommu_domain *domain, uint64_t first, uint64_t last)
{
    uint64_t end = iommu->config.input.last;

    if (domain->bypass || first > last)
        return -EINVAL;
    if (first > end)
        return 0;
    if (last > end)
        last = end;
    if (iopt_splits(&domain->iopt, first, last) && iommu_checks(iommu, IOMMU_CHECK_SPLIT))
        return -ERANGE;
    unmap_range(iommu, domain, first, last, unpin);
    return 0;
}

int iommu_unmap(struct iommu *iommu, uint32_t id, uint64_t first, uint64_t last)
{
    struct iommu_domain *domain;
    int err;

    pthread_mutex_lock(&iommu->lock);
    domain = find_domain(iommu, id);
    err = domain ? unmap(iommu, domain, first, last) : -ENOENT;
    iommu->unmaps += !err;
    pthread_mutex_unlock(&iommu->lock);
    return err;
}
