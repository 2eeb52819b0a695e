/*
 * The insides of an IOMMU: what iommu.c, domain.c, endpoint.c and faults.c share.
 *
 * Locks, in this order: the unit's (control), one endpoint's (its struct dma), then the
 * leaves: the fault queue's, and a dma handle's transfers_lock. Translation takes no lock but
 * its endpoint's.
 */
#ifndef STRATA_IOMMU_UNIT_H
#define STRATA_IOMMU_UNIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/iommu/domain.h"
#include "devices/iommu/iommu.h"
#include "devices/iommu/iopt.h"
#include "devices/iommu/iotlb.h"
#include "devices/iommu/pins.h"

struct iommu_endpoint {
    struct iommu *iommu;
    struct dma *dma;
    uint32_t id;

    /* Changed with the unit's and the endpoint's lock, read with either. */
    struct iommu_domain *domain; /* NULL: not attached */
    enum iommu_mode mode;

    uint64_t vectors[4];

    /* With the unit's lock. */
    struct iommu_reserved reserved[IOMMU_RESERVED_MAX];
    int nreserved;

    /* With the endpoint's lock; the counters are read without. */
    atomic_ullong tlb_hits, tlb_misses;
    struct iotlb tlb;
};

struct iommu_faults {
    pthread_mutex_t lock;
    struct iommu_fault *ring;
    uint32_t size, head, used;
    uint64_t count, dropped;
    void (*wake)(void *owner);
    void *wake_owner;
    void (*seen)(void *owner, const struct iommu_fault *fault);
    void *seen_owner;
};

struct iommu {
    pthread_mutex_t lock;
    const struct memory *memory;
    struct iommu_config config;
    atomic_bool bypass;
    void (*settle)(void *owner, struct vm_thread *self);
    void *settle_owner;

    struct iommu_endpoint *endpoint[IOMMU_ENDPOINTS_MAX];
    unsigned nendpoints;
    struct iommu_domain *domains; /* by iommu_attach: no more than endpoints, one attached each */
    unsigned ndomains;
    struct iopt_budget tables;
    uint64_t mappings; /* of all domains */
    uint64_t maps, unmaps, invalidations;
    struct pins pins;
    struct iommu_faults faults;
};

/* Whether the unit makes a check: neither its configuration nor the build disables it. */
static inline bool iommu_checks(const struct iommu *iommu, enum iommu_check check)
{
    return !(((iommu->config.disabled_checks & IOMMU_CHECKS_OPTIONAL) | FAULT_INJECT) & check);
}

/* domain.c: takes an endpoint off its domain, which goes with its last. With the unit's lock. */
void iommu_leave(struct iommu_endpoint *endpoint);

#endif
