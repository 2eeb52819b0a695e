/*
 * The checks of the IOMMU, a bit each, and one mask of those that are disabled.
 *
 * A policy (struct iommu_config) may disable those of IOMMU_CHECKS_OPTIONAL, to show that
 * each attack is real. Any can be disabled by the build, as a seeded bug for tests of the
 * tests: `make FAULT_INJECT=stale-iotlb` builds a strata with exactly one of them, in
 * build/fault/stale-iotlb. Each must be visible from outside, to `strata dma test`. In other
 * builds the checks that are not optional are constants and cost nothing.
 */
#ifndef STRATA_IOMMU_CHECKS_H
#define STRATA_IOMMU_CHECKS_H

#include <stdint.h>

/* What is checked, or seen to. */
enum iommu_check {
    /* Optional: what real units are known to lack, or to have switched off. */
    IOMMU_CHECK_REQUESTER = 1u << 0,  /* a request has its endpoint's id, whatever it claims */
    IOMMU_CHECK_TRANSLATED = 1u << 1, /* a request that says "translated" is not believed */
    IOMMU_CHECK_WRAP = 1u << 2,       /* untranslated addresses do not wrap around at 2^64 */
    IOMMU_CHECK_QUOTA = 1u << 3,      /* one domain cannot take all mappings there are */
    IOMMU_CHECK_PIN = 1u << 4,        /* a mapped page is not given away */
    IOMMU_CHECK_MSI = 1u << 5,        /* only its own vectors from an endpoint */
    IOMMU_CHECK_PEER = 1u << 6,       /* device registers are not mapped */
    IOMMU_CHECK_PERMISSION = 1u << 7, /* READ and WRITE of a mapping */
    IOMMU_CHECKS_OPTIONAL = 0xff,

    /* Only the build disables these. */
    IOMMU_CHECK_INVALIDATE = 1u << 8,     /* an unmap drops cached translations */
    IOMMU_CHECK_BOUNDS = 1u << 9,         /* the page after a mapping is not mapped */
    IOMMU_CHECK_DOMAIN = 1u << 10,        /* mappings are of the endpoint's own domain */
    IOMMU_CHECK_BYPASS = 1u << 11,        /* an unattached endpoint is blocked */
    IOMMU_CHECK_SPLIT = 1u << 12,         /* an unmap takes no part of a mapping */
    IOMMU_CHECK_RECORD = 1u << 13,        /* a fault is recorded, */
    IOMMU_CHECK_FAULT_ADDRESS = 1u << 14, /* with its address, */
    IOMMU_CHECK_FAULT_ACCESS = 1u << 15,  /* and what the access was */
    IOMMU_CHECK_DRAIN = 1u << 16,         /* an unmap waits for transfers in flight */
    IOMMU_CHECK_DETACH = 1u << 17,        /* a detached endpoint keeps nothing */
    IOMMU_CHECK_RESERVED = 1u << 18,      /* reserved regions are not mapped */
    IOMMU_CHECK_TARGET_END = 1u << 19,    /* the target of a mapping does not wrap around */
};

/*
 * Seeded bugs: which checks each disables. `make fault-list` prints the names; it reads the
 * lines `FAULT_… = …, // name: …`.
 */
enum iommu_seeded_bug {
    FAULT_NONE = 0,
    FAULT_SKIP_PERMISSION = IOMMU_CHECK_PERMISSION, // skip-permission: READ, WRITE not looked at
    FAULT_STALE_IOTLB = IOMMU_CHECK_INVALIDATE,     // stale-iotlb: unmap leaves the IOTLB alone
    FAULT_PAST_END = IOMMU_CHECK_BOUNDS,            // past-end: a mapping has a page more
    FAULT_NO_PIN = IOMMU_CHECK_PIN,                 // no-pin: mapped pages are not pinned
    FAULT_WRONG_ENDPOINT = IOMMU_CHECK_DOMAIN,      // wrong-endpoint: mappings of others work too
    FAULT_NO_BYPASS_CHECK = IOMMU_CHECK_BYPASS,     // no-bypass-check: unattached is untranslated
    FAULT_UNMAP_SPLITS = IOMMU_CHECK_SPLIT,         // unmap-splits: takes a part of a mapping
    FAULT_FAULT_NOT_RECORDED = IOMMU_CHECK_RECORD,  // fault-not-recorded: blocked, but not told
    FAULT_FAULT_WRONG_ADDRESS = IOMMU_CHECK_FAULT_ADDRESS, // fault-wrong-address: the page after
    FAULT_FAULT_WRONG_ACCESS = IOMMU_CHECK_FAULT_ACCESS,   // fault-wrong-access: read for write
    FAULT_MSI_OPEN = IOMMU_CHECK_MSI,                      // msi-open: any vector from any endpoint
    FAULT_NO_DRAIN = IOMMU_CHECK_DRAIN, // no-drain: unmap does not wait for transfers
    FAULT_WRAP = IOMMU_CHECK_WRAP | IOMMU_CHECK_TARGET_END, // wrap: around at 2^64
    FAULT_QUOTA_OFF = IOMMU_CHECK_QUOTA,           // quota-off: a domain may take all mappings
    FAULT_KEEP_AFTER_DETACH = IOMMU_CHECK_DETACH,  // keep-after-detach: detach does nothing
    FAULT_RESERVED_IGNORED = IOMMU_CHECK_RESERVED, // reserved-ignored: those can be mapped
    FAULT_ATS_TRUSTED = IOMMU_CHECK_TRANSLATED,    // ats-trusted: "translated" is believed
    FAULT_ID_BELIEVED = IOMMU_CHECK_REQUESTER,     // id-believed: the requester id, too
};

#ifndef FAULT_INJECT
#define FAULT_INJECT FAULT_NONE
#endif

/* An unknown name ends the build here. */
_Static_assert(FAULT_INJECT >= FAULT_NONE, "FAULT_INJECT");

#endif
