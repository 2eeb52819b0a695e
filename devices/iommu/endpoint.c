/* Endpoints: their ids, the domains they are attached to, and how translations end. */
#include "devices/iommu/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/dma_segment.h"
#include "devices/iommu/dma_transfer.h"
#include "devices/iommu/unit.h"

/* Of what is found at once; with the leaf around its first byte, a size in 32 bits. */
#define RUN_BYTES_MAX (1ull << 30)

/*
 * Not dma_lock and dma_unlock: what a device does when it gives up its lock is not to
 * run here, under the unit's.
 */
static void endpoint_lock(struct dma *dma)
{
    pthread_mutex_lock(&dma->lock);
}

static void endpoint_unlock(struct dma *dma)
{
    pthread_mutex_unlock(&dma->lock);
}

struct iommu_endpoint *iommu_find(const struct iommu *iommu, uint32_t id)
{
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        if (iommu->endpoint[i]->id == id)
            return iommu->endpoint[i];
    }
    return NULL;
}

enum iommu_mode iommu_unattached_mode(const struct iommu *iommu)
{
    return atomic_load(&iommu->bypass) || !iommu_checks(iommu, IOMMU_CHECK_BYPASS) ? IOMMU_BYPASS
                                                                                   : IOMMU_BLOCKED;
}

int iommu_add_endpoint(struct iommu *iommu, uint32_t id, struct dma *dma)
{
    struct iommu_endpoint *endpoint;
    int err = 0;

    pthread_mutex_lock(&iommu->lock);
    if (iommu_find(iommu, id)) {
        err = -EEXIST;
    } else if (iommu->nendpoints == IOMMU_ENDPOINTS_MAX) {
        err = -ENOSPC;
    } else {
        endpoint = calloc(1, sizeof(*endpoint));
        if (!endpoint) {
            err = -ENOMEM;
        } else {
            endpoint->iommu = iommu;
            endpoint->dma = dma;
            endpoint->id = id;
            endpoint->mode = iommu_unattached_mode(iommu);
            endpoint->reserved[0] = (struct iommu_reserved){
                .range = { IOMMU_MSI_FIRST, IOMMU_MSI_LAST }, .kind = IOMMU_RESERVED_MSI
            };
            endpoint->nreserved = 1;
            iommu->endpoint[iommu->nendpoints++] = endpoint;
            dma->iommu = iommu;
            dma->endpoint = endpoint;
        }
    }
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

void iommu_remove_endpoint(struct iommu_endpoint *endpoint)
{
    struct iommu *iommu = endpoint->iommu;

    pthread_mutex_lock(&iommu->lock);
    iommu_leave(endpoint);
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        if (iommu->endpoint[i] == endpoint)
            iommu->endpoint[i] = iommu->endpoint[--iommu->nendpoints];
    }
    pthread_mutex_unlock(&iommu->lock);
    free(endpoint);
}

int iommu_add_reserved(struct iommu *iommu, uint32_t id, const struct iommu_reserved *reserved)
{
    struct iommu_endpoint *endpoint;
    int err = 0;

    if (reserved->range.first > reserved->range.last)
        return -EINVAL;
    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (!endpoint) {
        err = -ENOENT;
    } else if (endpoint->nreserved == IOMMU_RESERVED_MAX) {
        err = -ENOSPC;
    } else {
        int at = endpoint->nreserved++;

        for (; at && endpoint->reserved[at - 1].range.first > reserved->range.first; at--)
            endpoint->reserved[at] = endpoint->reserved[at - 1];
        endpoint->reserved[at] = *reserved;
    }
    pthread_mutex_unlock(&iommu->lock);
    return err;
}

int iommu_reserved(const struct iommu *iommu, uint32_t id,
                   struct iommu_reserved reserved[IOMMU_RESERVED_MAX])
{
    struct iommu *unit = (struct iommu *)iommu;
    const struct iommu_endpoint *endpoint;
    int n = -ENOENT;

    pthread_mutex_lock(&unit->lock);
    endpoint = iommu_find(iommu, id);
    if (endpoint) {
        n = endpoint->nreserved;
        memcpy(reserved, endpoint->reserved, (size_t)n * sizeof(*reserved));
    }
    pthread_mutex_unlock(&unit->lock);
    return n;
}

int iommu_allow_vectors(struct iommu *iommu, uint32_t id, const uint64_t vectors[4])
{
    struct iommu_endpoint *endpoint;

    pthread_mutex_lock(&iommu->lock);
    endpoint = iommu_find(iommu, id);
    if (endpoint) {
        endpoint_lock(endpoint->dma);
        memcpy(endpoint->vectors, vectors, sizeof(endpoint->vectors));
        endpoint_unlock(endpoint->dma);
    }
    pthread_mutex_unlock(&iommu->lock);
    return endpoint ? 0 : -ENOENT;
}

void iommu_set_domain(struct iommu_endpoint *endpoint, struct iommu_domain *domain,
                      enum iommu_mode mode)
{
    struct dma *dma = endpoint->dma;

    if (endpoint->domain == domain && endpoint->mode == mode)
        return;
    endpoint_lock(dma);
    endpoint->domain = domain;
    endpoint->mode = mode;
    iotlb_invalidate(&endpoint->tlb, 0, UINT64_MAX);
    dma_forget(dma, 0, UINT64_MAX);
    endpoint_unlock(dma);
    endpoint->iommu->invalidations++;
    if (iommu_checks(endpoint->iommu, IOMMU_CHECK_DRAIN))
        dma_drain(dma, 0, UINT64_MAX);
}

/* Whether the endpoint's walks go through the domain's table. */
static bool walks(const struct iommu_endpoint *endpoint, const struct iommu_domain *domain)
{
    return endpoint->domain == domain || !iommu_checks(endpoint->iommu, IOMMU_CHECK_DOMAIN);
}

void iommu_invalidate(struct iommu *iommu, const struct iommu_domain *domain, uint64_t first,
                      uint64_t last)
{
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        struct iommu_endpoint *endpoint = iommu->endpoint[i];
        struct dma *dma = endpoint->dma;

        if (!walks(endpoint, domain))
            continue;
        /* The lock is the barrier too: who takes it later sees the table as it is now. */
        endpoint_lock(dma);
        if (iommu_checks(iommu, IOMMU_CHECK_INVALIDATE)) {
            iotlb_invalidate(&endpoint->tlb, first, last);
            dma_forget(dma, first, last);
        }
        endpoint_unlock(dma);
        iommu->invalidations++;
        if (iommu_checks(iommu, IOMMU_CHECK_DRAIN))
            dma_drain(dma, first, last);
    }
}

void iommu_quiesce(struct iommu *iommu, const struct iommu_domain *domain)
{
    for (unsigned i = 0; i < iommu->nendpoints; i++) {
        if (!walks(iommu->endpoint[i], domain))
            continue;
        endpoint_lock(iommu->endpoint[i]->dma);
        endpoint_unlock(iommu->endpoint[i]->dma);
    }
}

/* The seeded bugs of translation: what a mapping of somebody or something else gives. */
static bool translate_wrongly(const struct iommu_endpoint *endpoint, uint64_t iova,
                              struct iommu_translation *to)
{
    const struct iommu *iommu = endpoint->iommu;
    const struct iommu_domain *domain;

    for (unsigned i = 0; !iommu_checks(iommu, IOMMU_CHECK_DOMAIN) && i < iommu->nendpoints; i++) {
        domain = iommu->endpoint[i]->domain;
        if (domain && domain->mode == IOMMU_TRANSLATED &&
            !domain->ops->translate(domain, iova, iova, to))
            return true;
    }
    domain = endpoint->domain;
    if (!iommu_checks(iommu, IOMMU_CHECK_BOUNDS) && iova >= IOPT_PAGE_BYTES &&
        !domain->ops->translate(domain, iova - IOPT_PAGE_BYTES, iova - IOPT_PAGE_BYTES, to)) {
        to->gpa += to->bytes;
        to->first += to->bytes;
        to->bytes = to->run = IOPT_PAGE_BYTES;
        return true;
    }
    return false;
}

/* What an endpoint's iova translates to, for accesses as far as `last`: or why it does not. */
static enum iommu_fault_code translate(const struct iommu_endpoint *endpoint, uint64_t iova,
                                       uint64_t last, struct iommu_translation *to)
{
    const struct iommu_domain *domain = endpoint->domain;
    enum iommu_fault_code code;

    to->detail = 0;
    if (endpoint->mode != IOMMU_TRANSLATED)
        return IOMMU_FAULT_NO_DOMAIN;
    code = domain->ops->translate(domain, iova, last, to);
    return code && translate_wrongly(endpoint, iova, to) ? IOMMU_FAULT_NONE : code;
}

int iommu_resolve(struct iommu_endpoint *endpoint, uint64_t len, struct iotlb_entry *found,
                  struct iommu_fault *fault)
{
    const struct iommu *iommu = endpoint->iommu;
    uint64_t iova = fault->iova, available;
    uint64_t last = iova + ((len < RUN_BYTES_MAX ? len : RUN_BYTES_MAX) - 1);
    struct iommu_translation to;
    char *host;

    fault->code = translate(endpoint, iova, last, &to);
    fault->detail = fault->code ? to.detail : 0;
    if (!fault->code && (fault->access & ~to.prot) && iommu_checks(iommu, IOMMU_CHECK_PERMISSION))
        fault->code = IOMMU_FAULT_PERMISSION;
    if (fault->code)
        return -EFAULT;
    if (!iommu_checks(iommu, IOMMU_CHECK_PERMISSION))
        to.prot |= IOMMU_READ | IOMMU_WRITE;

    host = dma_host(iommu->memory, to.gpa, &available);
    if (!host || available < to.bytes) {
        /* Where RAM ends within a leaf, or is in two pieces, the page is what counts. */
        to.gpa += (iova - to.first) & ~(IOPT_PAGE_BYTES - 1);
        to.first = iova & ~(IOPT_PAGE_BYTES - 1);
        to.bytes = to.run = IOPT_PAGE_BYTES;
        host = dma_host(iommu->memory, to.gpa, &available);
    }
    *found = (struct iotlb_entry){
        .first = to.first,
        .bytes = (uint32_t)to.bytes,
        .prot = to.prot,
        .host = host,
        .gpa = to.gpa,
    };
    if (!host)
        return 0;
    *iotlb_slot(&endpoint->tlb, iova) = *found;
    found->bytes = (uint32_t)(to.run < available ? to.run : available);
    return 0;
}
