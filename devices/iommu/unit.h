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

/* endpoint.c. These take the unit's lock for granted. */
struct iommu_endpoint *iommu_find(const struct iommu *iommu, uint32_t id);

/*
 * Attaches the endpoint to `domain` (NULL: none): its translations are dropped, and transfers
 * that are under way have ended when this returns.
 */
void iommu_set_domain(struct iommu_endpoint *endpoint, struct iommu_domain *domain,
                      enum iommu_mode mode);

/* No translation of [first, last] of the domain is cached or in use any more. */
void iommu_invalidate(struct iommu *iommu, const struct iommu_domain *domain, uint64_t first,
                      uint64_t last);

/* No walk of the domain's table that is under way began before this. */
void iommu_quiesce(struct iommu *iommu, const struct iommu_domain *domain);

/*
 * For dma.c, with the endpoint's lock only: what iova leads to, as the IOTLB entry it
 * would have; it has one unless host is NULL (not RAM). Where `len` bytes from iova on are
 * more than that, *found goes on, in one piece of host memory, to hold as many of them as
 * follow each other; the IOTLB's entry does not. 0; or -EFAULT with the code and the detail of
 * fault, of which access and iova say what is asked for.
 */
int iommu_resolve(struct iommu_endpoint *endpoint, uint64_t len, struct iotlb_entry *found,
                  struct iommu_fault *fault);

/* Takes an endpoint off whatever it is attached to, and away. Without any lock. */
void iommu_remove_endpoint(struct iommu_endpoint *endpoint);

/* The mode of an endpoint that is attached to no domain. */
enum iommu_mode iommu_unattached_mode(const struct iommu *iommu);

/* domain.c: takes an endpoint off its domain, which goes with its last. With the unit's lock. */
void iommu_leave(struct iommu_endpoint *endpoint);

/* faults.c. record: whether it was queued, so that somebody should be woken. */
int iommu_faults_create(struct iommu_faults *faults, uint32_t max);
void iommu_faults_destroy(struct iommu_faults *faults);
bool iommu_faults_record(struct iommu *iommu, const struct iommu_fault *fault);
void iommu_faults_forget(struct iommu_faults *faults);
void iommu_faults_wake(struct iommu_faults *faults);

#endif
