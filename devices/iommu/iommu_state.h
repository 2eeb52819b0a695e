/*
 * The state of an IOMMU: what the guest can see of it and has set, apart from pointers, locks
 * and page tables, in plain structs and arrays of them that may be written to a file as they
 * are. Configuration (which endpoints, reserved regions, vectors, quotas) is no state: a unit
 * that loads a state was created with the same. Counters of reports are none either.
 */
#ifndef STRATA_IOMMU_IOMMU_STATE_H
#define STRATA_IOMMU_IOMMU_STATE_H

#include <stdint.h>

#include "devices/iommu/iommu.h"

#define IOMMU_STATE_VERSION 1

/* With `version` alone at its place in all versions. */
struct iommu_state {
    uint32_t version;
    uint32_t bypass; /* 0 or 1: the guest's choice for unattached endpoints */
    /* Of the configuration, what the guest was told. */
    uint64_t page_size_mask;
    struct iommu_range input, domains;
    /* How long the arrays are. */
    uint32_t nendpoints, ndomains, nfaults, unused;
    uint64_t nmappings;
};

struct iommu_state_endpoint {
    uint32_t id;
    uint32_t attached; /* 0 or 1: */
    uint32_t domain;   /* to this one */
};

struct iommu_state_domain {
    uint32_t id;
    uint32_t bypass; /* 0 or 1 */
};

struct iommu_state_mapping {
    uint64_t first, last, gpa;
    uint32_t domain;
    uint32_t prot; /* IOMMU_* */
};

struct iommu_state_fault {
    uint32_t code; /* enum iommu_fault_code */
    uint32_t access;
    uint32_t endpoint;
    uint32_t detail;
    uint64_t iova;
};

/* A state and its arrays, owned. */
struct iommu_saved {
    struct iommu_state state;
    struct iommu_state_endpoint *endpoints;
    struct iommu_state_domain *domains;
    struct iommu_state_mapping *mappings; /* ascending in each domain */
    struct iommu_state_fault *faults;     /* oldest first */
};

/*
 * Takes the state while nothing accesses memory through the unit and the guest does not run.
 * 0, -ENOMEM, or -EOPNOTSUPP: an endpoint is attached to a domain of a front end, which has to
 * save what is in it. To be freed by iommu_saved_free, also on failure.
 */
int iommu_save(struct iommu *iommu, struct iommu_saved *saved);

/*
 * Gives the unit this state, under the same conditions. The state may be anything: it is
 * checked as requests of a guest are. 0; -EINVAL: it is none of this unit's (version,
 * configuration, endpoints), or contradicts itself; -ENOMEM. On failure the unit is as after
 * iommu_reset.
 */
int iommu_load(struct iommu *iommu, const struct iommu_saved *saved);

void iommu_saved_free(struct iommu_saved *saved);

#endif
