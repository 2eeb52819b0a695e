/*
 * A domain: how the accesses of the endpoints attached to it are translated.
 *
 * Who keeps its tables is the domain's business, by its struct iommu_domain_ops. The IOMMU's
 * own (iopt_domain.h) are changed by iommu_map and iommu_unmap, and found by a number. A front
 * end whose tables are the guest's, in guest memory, gives domains of its own to
 * iommu_attach_domain, reads tables in `translate` (vmm/machine/paging.h has the walker), and
 * calls iommu_domain_invalidate when the guest asks it to.
 */
#ifndef STRATA_IOMMU_DOMAIN_H
#define STRATA_IOMMU_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/iommu/iommu.h"

/* What becomes of an endpoint's accesses. */
enum iommu_mode {
    IOMMU_BLOCKED,
    IOMMU_BYPASS, /* untranslated */
    IOMMU_TRANSLATED,
};

/* What an address leads to. */
struct iommu_translation {
    uint64_t first, bytes; /* addresses that one entry translates, a power of two, the address
                              among them; what is cached of it is no more */
    uint64_t gpa;          /* of first */
    uint64_t run;          /* bytes from first on that lead to gpa on with the same prot: bytes
                              or more */
    uint32_t prot;         /* IOMMU_* */
    uint32_t detail;       /* where there is none: iommu_fault.detail */
};

struct iommu_domain;

struct iommu_domain_ops {
    const char *name;
    uint64_t entry_bytes_max; /* the most that `translate` says one entry translates, to 1 GiB */

    /*
     * IOMMU_FAULT_NONE and *to, or why iova is not translated. Whether prot allows the access
     * is the caller's to see. Accesses go on to `last`: as far as that, a run is worth
     * finding. With the lock of the endpoint that accesses, and no other: other endpoints
     * translate at the same time. What it finds is cached until it is invalidated, what it
     * does not find never is.
     */
    enum iommu_fault_code (*translate)(const struct iommu_domain *domain, uint64_t iova,
                                       uint64_t last, struct iommu_translation *to);

    /* With the unit's lock: as iommu_map and iommu_unmap. NULL: the guest writes the tables. */
    int (*map)(struct iommu_domain *domain, const struct iommu_mapping *mapping);
    int (*unmap)(struct iommu_domain *domain, uint64_t first, uint64_t last);

    /*
     * With the unit's lock: whether anything in [first, last] is mapped. NULL: a mapping of
     * what is reserved is left to the guest.
     */
    bool (*any)(const struct iommu_domain *domain, uint64_t first, uint64_t last);

    /* With the unit's lock: `visit` for each mapping, ascending. NULL: not known. */
    void (*each)(const struct iommu_domain *domain,
                 void (*visit)(void *owner, const struct iommu_mapping *mapping), void *owner);

    /* With the unit's lock: its last endpoint left. NULL: it stays its owner's. */
    void (*destroy)(struct iommu_domain *domain);
};

/* The first member of what an implementation keeps. Zero but for iommu, ops and mode. */
struct iommu_domain {
    struct iommu *iommu;
    const struct iommu_domain_ops *ops;
    enum iommu_mode mode;      /* IOMMU_TRANSLATED or IOMMU_BYPASS */
    uint32_t id;               /* only of those that iommu_attach has made */
    unsigned endpoints;        /* attached */
    struct iommu_domain *next; /* of those that iommu_attach has made */
};

/*
 * Attaches an endpoint to a domain of the front end, from whatever it is attached to; NULL:
 * to none. -ENOENT: no such endpoint. Locks as in iommu.h.
 */
int iommu_attach_domain(struct iommu *iommu, uint32_t endpoint, struct iommu_domain *domain);

/*
 * When this returns, nothing that was found before by an entry which translates any of
 * [first, last] of the domain is cached or in use. Locks as in iommu.h.
 */
void iommu_domain_invalidate(struct iommu_domain *domain, uint64_t first, uint64_t last);

#endif
