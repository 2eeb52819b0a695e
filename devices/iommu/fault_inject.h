/*
 * Seeded bugs, for tests of the tests: `make FAULT_INJECT=stale-iotlb` builds a strata
 * with exactly one of them, in build/fault/stale-iotlb. Each must be visible from outside,
 * to `strata dma test`. Otherwise FAULT() is the constant 0 and costs nothing.
 *
 * `make fault-list` prints the names; it reads the lines `FAULT_…, // name: …` below.
 */
#ifndef STRATA_IOMMU_FAULT_INJECT_H
#define STRATA_IOMMU_FAULT_INJECT_H

enum fault_injected {
    FAULT_NONE,
    FAULT_SKIP_PERMISSION,     // skip-permission: READ and WRITE of a mapping are not looked at
    FAULT_STALE_IOTLB,         // stale-iotlb: an unmap leaves cached translations alone
    FAULT_PAST_END,            // past-end: the page after a mapping can be reached too
    FAULT_NO_PIN,              // no-pin: pages under a mapping are not counted as pinned
    FAULT_WRONG_ENDPOINT,      // wrong-endpoint: mappings of other endpoints' domains work too
    FAULT_NO_BYPASS_CHECK,     // no-bypass-check: an unattached endpoint is not translated
    FAULT_UNMAP_SPLITS,        // unmap-splits: an unmap may take a part of a mapping
    FAULT_FAULT_NOT_RECORDED,  // fault-not-recorded: blocked, but nobody is told
    FAULT_FAULT_WRONG_ADDRESS, // fault-wrong-address: the record names the page after
    FAULT_FAULT_WRONG_ACCESS,  // fault-wrong-access: the record says read for write
    FAULT_MSI_OPEN,            // msi-open: any endpoint may signal any vector
    FAULT_NO_DRAIN,            // no-drain: an unmap does not wait for transfers in flight
    FAULT_WRAP,                // wrap: addresses that wrap around at 2^64 are not refused
    FAULT_QUOTA_OFF,           // quota-off: one domain may take all mappings there are
    FAULT_KEEP_AFTER_DETACH,   // keep-after-detach: a detached endpoint keeps what it had
    FAULT_RESERVED_IGNORED,    // reserved-ignored: reserved regions may be mapped
    FAULT_ATS_TRUSTED,         // ats-trusted: a request that says "translated" is believed
    FAULT_ID_BELIEVED,         // id-believed: the requester id in a request is believed
};

#ifndef FAULT_INJECT
#define FAULT_INJECT FAULT_NONE
#endif

#define FAULT(name) (FAULT_INJECT == FAULT_##name)

/* An unknown name ends the build here. */
_Static_assert(FAULT_INJECT >= FAULT_NONE, "FAULT_INJECT");

#endif
