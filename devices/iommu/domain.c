#include "devices/iommu/domain.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/endpoint.h"
#include "devices/iommu/iopt_domain.h"
#include "devices/iommu/unit.h"

static struct iommu_domain *find_domain(const struct iommu *iommu, uint32_t id)
{
    struct iommu_domain *domain = iommu->domains;

    while (domain && domain->id != id)
        domain = domain->next;
    return domain;
}

/* One that does not translate. */
static void bypass_destroy(struct iommu_domain *domain)
{
    free(domain);
}

static const struct iommu_domain_ops bypass_ops = { .name = "bypass", .destroy = bypass_destroy };

static int bypass_create(struct iommu_domain **made)
{
    struct iommu_domain *domain = calloc(1, sizeof(*domain));

    if (!domain)
        return -ENOMEM;
    domain->ops = &bypass_ops;
    domain->mode = IOMMU_BYPASS;
    *made = domain;
    return 0;
}

static int new_domain(struct iommu *iommu, uint32_t id, bool bypass, struct iommu_domain **made)
{
    struct iommu_domain *domain;
    int err;

    if (iommu->ndomains >= iommu->config.domains_max)
        return -ENOMEM;
    err = bypass ? bypass_create(&domain) : iopt_domain_create(iommu, &domain);
    if (err)
        return err;
    domain->iommu = iommu;
    domain->id = id;
    domain->next = iommu->domains;
    iommu->domains = domain;
    iommu->ndomains++;
    *made = domain;
    return 0;
}

/* Its last endpoint left. */
static void drop_domain(struct iommu *iommu, struct iommu_domain *domain)
{
    struct iommu_domain **link = &iommu->domains;

    while (*link && *link != domain)
        link = &(*link)->next;
    if (*link) {
        *link = domain->next;
        iommu->ndomains--;
    }
    if (domain->ops->destroy)
        domain->ops->destroy(domain);
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
    for (int i = 0; domain->ops->any && i < endpoint->nreserved; i++) {
        const struct iommu_range *range = &endpoint->reserved[i].range;

        if (domain->ops->any(domain, range->first, range->last))
            return true;
    }
    return false;
}

/* Attaches an endpoint to a domain that it is not attached to. */
static void move_to(struct iommu_endpoint *endpoint, struct iommu_domain *domain)
{
    struct iommu_domain *left = endpoint->domain;

    domain->endpoints++;
    iommu_set_domain(endpoint, domain, domain->mode);
    if (left && --left->endpoints == 0)
        drop_domain(endpoint->iommu, left);
}

static int attach(struct iommu *iommu, struct iommu_endpoint *endpoint, uint32_t id, bool bypass)
{
    struct iommu_domain *domain = find_domain(iommu, id);
    int err;

    if (domain && (domain->mode == IOMMU_BYPASS) != bypass)
        return -EINVAL;
    if (domain && domain == endpoint->domain)
        return 0;
    if (domain && maps_reserved(domain, endpoint) && iommu_checks(iommu, IOMMU_CHECK_RESERVED))
        return -EOPNOTSUPP;
    if (!domain) {
        err = new_domain(iommu, id, bypass, &domain);
        if (err)
            return err;
    }
    move_to(endpoint, domain);
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

int iommu_attach_domain(struct iommu *iommu, uint32_t id, struct iommu_domain *domain)
{
    struct iommu_endpoint *endpoint;

    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (endpoint && !domain)
        iommu_leave(endpoint);
    else if (endpoint && endpoint->domain != domain)
        move_to(endpoint, domain);
    pthread_mutex_unlock(&iommu->lock);
    return endpoint ? 0 : -ENOENT;
}

void iommu_domain_invalidate(struct iommu_domain *domain, uint64_t first, uint64_t last)
{
    uint64_t entry = domain->ops->entry_bytes_max - 1;

    pthread_mutex_lock(&domain->iommu->lock);
    iommu_invalidate(domain->iommu, domain, first & ~entry, last | entry);
    pthread_mutex_unlock(&domain->iommu->lock);
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

int iommu_map(struct iommu *iommu, uint32_t id, uint64_t first, uint64_t last, uint64_t gpa,
              uint32_t prot)
{
    const struct iommu_mapping mapping = { { first, last }, gpa, prot };
    struct iommu_domain *domain;
    int err = -ENOENT;

    pthread_mutex_lock(&iommu->lock);
    domain = find_domain(iommu, id);
    if (domain)
        err = domain->ops->map ? domain->ops->map(domain, &mapping) : -EINVAL;
    iommu->maps += !err;
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

int iommu_unmap(struct iommu *iommu, uint32_t id, uint64_t first, uint64_t last)
{
    struct iommu_domain *domain;
    int err = -ENOENT;

    pthread_mutex_lock(&iommu->lock);
    domain = find_domain(iommu, id);
    if (domain)
        err = domain->ops->unmap ? domain->ops->unmap(domain, first, last) : -EINVAL;
    iommu->unmaps += !err;
    pthread_mutex_unlock(&iommu->lock);
    return err;
}
