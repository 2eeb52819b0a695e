#include "devices/iommu/iopt_domain.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/dma_segment.h"
#include "devices/iommu/endpoint.h"
#include "devices/iommu/unit.h"

#define PROT_ALL (IOMMU_READ | IOMMU_WRITE | IOMMU_MMIO)

struct iopt_domain {
    struct iommu_domain domain;
    struct iopt iopt;
};

static struct iopt_domain *own_of(struct iommu_domain *domain)
{
    return (struct iopt_domain *)domain;
}

static const struct iopt *iopt_of(const struct iommu_domain *domain)
{
    return &((const struct iopt_domain *)domain)->iopt;
}

static enum iommu_fault_code translate(const struct iommu_domain *domain, uint64_t iova,
                                       uint64_t last, struct iommu_translation *to)
{
    const struct iopt *iopt = iopt_of(domain);
    struct iopt_leaf leaf;

    if (!iopt_walk_run(iopt, iova, last, &leaf, &to->run))
        return iova > iopt->last ? IOMMU_FAULT_ADDRESS_WIDTH : IOMMU_FAULT_NOT_MAPPED;
    to->first = leaf.first;
    to->bytes = leaf.bytes;
    to->gpa = leaf.gpa;
    to->prot = leaf.prot;
    return IOMMU_FAULT_NONE;
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
static void unmap_range(struct iopt_domain *own, uint64_t first, uint64_t last,
                        void (*cleared)(void *owner, const struct iopt_leaf *leaf))
{
    struct iommu *iommu = own->domain.iommu;
    struct iopt *iopt = &own->iopt;
    uint64_t before = iopt->mappings;

    iopt_unmap(iopt, first, last);
    iommu->mappings -= before - iopt->mappings;
    iommu_invalidate(iommu, &own->domain, first, last);
    iopt_clear(iopt, first, last, cleared, iommu);
    if (iopt_has_unlinked(iopt)) {
        iommu_quiesce(iommu, &own->domain);
        iopt_free_unlinked(iopt);
    }
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

static bool over_quota(const struct iommu *iommu, const struct iopt_domain *own)
{
    const struct iommu_config *config = &iommu->config;
    bool quota = iommu_checks(iommu, IOMMU_CHECK_QUOTA);

    return iommu->mappings >= config->mappings_max ||
           (quota && own->iopt.mappings >= config->mappings_of_domain_max);
}

static int map(struct iommu_domain *domain, const struct iommu_mapping *mapping)
{
    struct iopt_domain *own = own_of(domain);
    struct iommu *iommu = domain->iommu;
    uint64_t first = mapping->iova.first, last = mapping->iova.last, gpa = mapping->gpa;
    const struct iommu_range *input = &iommu->config.input;
    uint64_t granule = iommu->config.page_size_mask & -iommu->config.page_size_mask;
    uint64_t before = own->iopt.mappings;
    int err;

    if (first > last || (mapping->prot & ~PROT_ALL))
        return -EINVAL;
    if ((first | (last + 1) | gpa) & (granule - 1))
        return -ERANGE;
    if (first < input->first || last > input->last)
        return -ERANGE;
    if (reserved(iommu, domain, first, last))
        return -EINVAL;
    if (!may_be_target(iommu, gpa, last - first + 1, mapping->prot))
        return -EINVAL;
    if (iopt_any(&own->iopt, first, last))
        return -EINVAL;
    if (over_quota(iommu, own))
        return -ENOMEM;

    /* Pinned before it can be reached, and until after it cannot be. */
    pin(iommu, gpa, last - first + 1);
    err = iopt_map(&own->iopt, first, last, gpa, mapping->prot);
    iommu->mappings += own->iopt.mappings - before;
    if (err) {
        /* A device may have found the part that was there. */
        unmap_range(own, first, last, NULL);
        unpin(iommu, &(struct iopt_leaf){ .gpa = gpa, .bytes = last - first + 1 });
    }
    return err;
}

static int unmap(struct iommu_domain *domain, uint64_t first, uint64_t last)
{
    struct iopt_domain *own = own_of(domain);
    const struct iommu *iommu = domain->iommu;
    uint64_t end = iommu->config.input.last;

    if (first > last)
        return -EINVAL;
    if (first > end)
        return 0;
    if (last > end)
        last = end;
    if (iopt_splits(&own->iopt, first, last) && iommu_checks(iommu, IOMMU_CHECK_SPLIT))
        return -ERANGE;
    unmap_range(own, first, last, unpin);
    return 0;
}

static bool any(const struct iommu_domain *domain, uint64_t first, uint64_t last)
{
    const struct iopt *iopt = iopt_of(domain);

    return first <= iopt->last && iopt_any(iopt, first, last < iopt->last ? last : iopt->last);
}

/* Leaves on their way to becoming a mapping again. */
struct joining {
    struct iommu_mapping mapping;
    void (*visit)(void *owner, const struct iommu_mapping *mapping);
    void *owner;
};

static void join(void *owner, const struct iopt_leaf *leaf)
{
    struct joining *joining = owner;

    if (leaf->starts) {
        joining->mapping.iova.first = leaf->first;
        joining->mapping.gpa = leaf->gpa;
        joining->mapping.prot = leaf->prot;
    }
    joining->mapping.iova.last = leaf->first + (leaf->bytes - 1);
    if (leaf->ends)
        joining->visit(joining->owner, &joining->mapping);
}

static void each(const struct iommu_domain *domain,
                 void (*visit)(void *owner, const struct iommu_mapping *mapping), void *owner)
{
    struct joining joining = { .visit = visit, .owner = owner };

    iopt_each(iopt_of(domain), 0, iopt_of(domain)->last, join, &joining);
}

static void destroy(struct iommu_domain *domain)
{
    struct iopt_domain *own = own_of(domain);

    unmap_range(own, 0, own->iopt.last, unpin);
    iopt_destroy(&own->iopt);
    free(own);
}

static const struct iommu_domain_ops ops = {
    .name = "iopt",
    .entry_bytes_max = 1ull << 30,
    .translate = translate,
    .map = map,
    .unmap = unmap,
    .any = any,
    .each = each,
    .destroy = destroy,
};

int iopt_domain_create(struct iommu *iommu, struct iommu_domain **made)
{
    struct iopt_domain *own = calloc(1, sizeof(*own));
    int err;

    if (!own)
        return -ENOMEM;
    own->domain = (struct iommu_domain){ .iommu = iommu, .ops = &ops, .mode = IOMMU_TRANSLATED };
    err = iopt_create(&own->iopt, iommu->config.input.last, iommu->config.page_size_mask,
                      &iommu->tables);
    if (err) {
        free(own);
        return err;
    }
    *made = &own->domain;
    return 0;
}
