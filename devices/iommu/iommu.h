/*
 * The IOMMU: endpoints, the domains they are attached to, and what each domain maps.
 * It knows nothing of virtio; devices/virtio/iommu.c is how a guest programs it, and
 * dma.h is how a device uses it.
 *
 * Deny by default: an endpoint that is not attached is blocked, unless the guest
 * or the configuration says bypass. An endpoint's identity is the object it was made
 * as; no request can claim another one.
 *
 * Threads: the functions that change something (attach, detach, map, unmap, bypass,
 * reset) may be called from any thread and take the unit's lock, then the lock of each
 * endpoint concerned, one at a time: they must not be called with an endpoint's lock
 * held. When one of them returns, no access that it forbids is under way or can start:
 * it waits for transfers in flight (dma.h) on the range that it unmapped.
 *
 * Ranges are [first, last], both inclusive, so that one may end at 2^64 - 1. Errors are
 * -errno; front ends translate them, and the codes of faults, to their own.
 */
#ifndef STRATA_IOMMU_IOMMU_H
#define STRATA_IOMMU_IOMMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/iommu/checks.h"

/* What an access wants or a mapping allows. */
#define IOMMU_READ          1u /* the device reads memory */
#define IOMMU_WRITE         2u /* the device writes memory */
#define IOMMU_MMIO          4u /* the target is a device's registers */

#define IOMMU_ENDPOINTS_MAX 32
#define IOMMU_RESERVED_MAX  16

/* The interrupt window of x86: writes there are messages, not memory. */
#define IOMMU_MSI_FIRST 0xfee00000ull
#define IOMMU_MSI_LAST  0xfeefffffull

struct dma;
struct iommu;
struct memory;
struct vm_thread;

struct iommu_range {
    uint64_t first, last;
};

enum iommu_reserved_kind {
    IOMMU_RESERVED = 0, /* nothing may be mapped there */
    IOMMU_RESERVED_MSI = 1,
};

struct iommu_reserved {
    struct iommu_range range;
    enum iommu_reserved_kind kind;
};

struct iommu_config {
    uint64_t page_size_mask;         /* 0: 4K, 2M and 1G */
    struct iommu_range input;        /* last 0: 2^48 - 1 */
    struct iommu_range domains;      /* ids; last 0: 2^32 - 1 */
    uint32_t domains_max;            /* at once; 0: 1024 */
    uint64_t mappings_max;           /* of the whole unit; 0: 4 Mi */
    uint64_t mappings_of_domain_max; /* quota of one domain; 0: 1 Mi */
    uint64_t table_bytes_max;        /* of page tables of the whole unit; 0: 64 MiB */
    uint32_t faults_max;             /* records kept until somebody takes them; 0: 64 */
    bool boot_bypass;                /* unattached endpoints are not translated at boot */
    uint32_t disabled_checks;        /* IOMMU_CHECK_*, of the optional ones (checks.h) */
};

/*
 * Why an access was refused, in no front end's terms: each has words of its own for these.
 * Which access it was, the record tells.
 */
enum iommu_fault_code {
    IOMMU_FAULT_NONE,
    IOMMU_FAULT_NO_DOMAIN,     /* the endpoint is attached to none */
    IOMMU_FAULT_ENDPOINT,      /* what the guest wrote about the endpoint cannot be used */
    IOMMU_FAULT_ADDRESS_WIDTH, /* beyond the addresses that the domain translates */
    IOMMU_FAULT_NOT_MAPPED,
    IOMMU_FAULT_PERMISSION, /* mapped, but not for such an access */
    IOMMU_FAULT_TABLE,      /* a table is where no memory is */
    IOMMU_FAULT_RESERVED,   /* reserved bits in a table */
    IOMMU_FAULT_TARGET,     /* leads to what is not memory */
    IOMMU_FAULT_MESSAGE,    /* in the interrupt window, but no message that the endpoint may send */
    IOMMU_FAULT_REQUESTER,  /* the request claims an id that no endpoint has */
    IOMMU_FAULT_CLAIM,      /* the request says that it is translated already */
    IOMMU_FAULT_WRAP,       /* the request goes on past 2^64 - 1 */
    IOMMU_FAULT_CODES
};

struct iommu_fault {
    enum iommu_fault_code code;
    uint32_t access; /* IOMMU_READ or IOMMU_WRITE */
    uint32_t endpoint;
    uint32_t detail; /* what a domain of the front end has to add to the code; else 0 */
    uint64_t iova;   /* first byte that could not be accessed */
};

/* [iova.first, iova.last] leads to gpa on. */
struct iommu_mapping {
    struct iommu_range iova;
    uint64_t gpa;
    uint32_t prot; /* IOMMU_READ, _WRITE, _MMIO */
};

struct iommu_counts {
    uint64_t faults, faults_dropped;
    uint64_t maps, unmaps, invalidations;
    uint64_t tlb_hits, tlb_misses; /* of all endpoints */
    uint64_t domains, mappings;    /* now */
    uint64_t table_bytes;          /* now */
    uint64_t pinned_pages;         /* 4K pages of RAM under at least one mapping, now */
};

/*
 * A unit over `memory`, which outlives it. 0, -EINVAL for a configuration that cannot
 * be (no page size, an empty range), -ENOMEM. Destroy after its endpoints' devices.
 */
int iommu_create(struct iommu **iommu, const struct memory *memory,
                 const struct iommu_config *config);
void iommu_destroy(struct iommu *iommu);

/* Where the guest's registers (the probe request, config space) get their values. */
const struct iommu_config *iommu_config(const struct iommu *iommu);

/*
 * Adds an endpoint whose accesses come through `dma` (dma_create does this). -EEXIST,
 * -ENOSPC. Only while no vCPU runs.
 */
int iommu_add_endpoint(struct iommu *iommu, uint32_t endpoint, struct dma *dma);

/* One more reserved region of an endpoint; the MSI window is there from the start. */
int iommu_add_reserved(struct iommu *iommu, uint32_t endpoint,
                       const struct iommu_reserved *reserved);

/* Its reserved regions by ascending address: their number, or -ENOENT. */
int iommu_reserved(const struct iommu *iommu, uint32_t endpoint,
                   struct iommu_reserved reserved[IOMMU_RESERVED_MAX]);

/*
 * The vectors (0 to 255, a bit each) that an endpoint may signal by writing to the MSI
 * window; none at first. -ENOENT.
 */
int iommu_allow_vectors(struct iommu *iommu, uint32_t endpoint, const uint64_t vectors[4]);

/*
 * Attaches an endpoint to a domain, made if there is none of that id; from another
 * domain it moves. With `bypass`, to one that does not translate. -ENOENT: no such
 * endpoint; -ERANGE: no such domain id; -EINVAL: the domain is of the other kind;
 * -ENOMEM: too many domains; -EOPNOTSUPP: a reserved region of the endpoint is already
 * mapped in the domain.
 */
int iommu_attach(struct iommu *iommu, uint32_t endpoint, uint32_t domain, bool bypass);

/* A domain goes with its last endpoint. -ENOENT: no such endpoint; -EINVAL: not attached to it. */
int iommu_detach(struct iommu *iommu, uint32_t endpoint, uint32_t domain);

/*
 * Maps [first, last] of a domain to RAM from gpa on, with leaves as large as all three
 * allow, and pins it. -ENOENT: no such domain; -EINVAL: it is a bypass domain, an
 * overlap, a reserved region, or not RAM (with IOMMU_MMIO: not a device either, but
 * with IOMMU_CHECK_PEER disabled), unknown bits in prot; -ERANGE: misaligned or outside the input
 * range; -ENOMEM: no memory, or a quota. Nothing is changed on failure.
 */
int iommu_map(struct iommu *iommu, uint32_t domain, uint64_t first, uint64_t last, uint64_t gpa,
              uint32_t prot);

/*
 * Removes every mapping inside [first, last]. -ENOENT, -EINVAL as above; -ERANGE: a
 * mapping would be split, and nothing was removed.
 */
int iommu_unmap(struct iommu *iommu, uint32_t domain, uint64_t first, uint64_t last);

/* The guest's choice for unattached endpoints: kept by a device reset, not by a system reset. */
void iommu_set_bypass(struct iommu *iommu, bool bypass);
bool iommu_bypass(const struct iommu *iommu);

/* Back to boot: no domain, no mapping, no fault. `bypass_too`: as at a system reset. */
void iommu_reset(struct iommu *iommu, bool bypass_too);

/* Takes the oldest fault record: false if there is none. */
bool iommu_next_fault(struct iommu *iommu, struct iommu_fault *fault);

/*
 * Calls, from then on, `wake` whenever a record was queued. It runs on the thread of
 * the faulting device, right after that has given up its lock (dma_unlock), and may
 * take locks of its own; but what it takes must not be held around iommu_unmap and its
 * like without a way out: use a trylock and look again after unlocking.
 * NULL: none. Only while no vCPU runs.
 */
void iommu_on_fault(struct iommu *iommu, void (*wake)(void *owner), void *owner);

/*
 * A device behind the unit is being notified: what the guest has asked of the unit by
 * then is carried out first, whether the guest has notified the unit too or not. Without any
 * device's lock, on the thread `self` (NULL: tests), where it may stand still while the
 * world is paused. iommu_on_settle says how; NULL: nothing to do. Only while no vCPU runs.
 */
void iommu_settle(struct iommu *iommu, struct vm_thread *self);
void iommu_on_settle(struct iommu *iommu, void (*settle)(void *owner, struct vm_thread *self),
                     void *owner);

/*
 * A second reader, for tests: sees every fault as it happens, dropped ones too. It runs
 * on the faulting device's thread, one at a time, and must not call the IOMMU.
 */
void iommu_watch_faults(struct iommu *iommu,
                        void (*seen)(void *owner, const struct iommu_fault *fault), void *owner);

/* Whether any byte of RAM [gpa, gpa + len) is under a mapping of any domain. */
bool iommu_pinned(const struct iommu *iommu, uint64_t gpa, uint64_t len);

void iommu_count(const struct iommu *iommu, struct iommu_counts *counts);

/*
 * For reports and checks: calls `visit`, which must not call the IOMMU, for each mapping of
 * the domain an endpoint is attached to, ascending. *bypass says if it is not translated
 * at all. -ENOENT.
 */
int iommu_each_mapping(struct iommu *iommu, uint32_t endpoint, bool *bypass,
                       void (*visit)(void *owner, const struct iommu_mapping *mapping),
                       void *owner);

#endif
