/*
 * The classes of attack, in the order of the matrix. A row is all that an attack needs
 * beside its file, attacks/FILE.c, which has its `attack_FILE` (attack.h):
 *
 *     ROW(constant, file, name, what it does, what stops it, where it is described)
 */
#ifndef STRATA_DMA_ATTACKS_ATTACKS_H
#define STRATA_DMA_ATTACKS_ATTACKS_H

#define ATTACKS(ROW)                                                                               \
    ROW(PROBE_SCAN, probe_scan, "probe-scan", "the device sweeps RAM and its address space",       \
        "deny by default; nothing reachable while unattached", "Thunderclap, NDSS'19")             \
    ROW(KERNEL_POINTER, kernel_pointer, "kernel-pointer",                                          \
        "a DMA buffer shares its page with a callback",                                            \
        "page-exclusive buffers, or a bounce pool", "Thunderclap, NDSS'19")                        \
    ROW(CO_LOCATION, co_location, "co-location",                                                   \
        "neighbours on a buffer's page are read and written", "page-exclusive buffers, or copies", \
        "Thunderclap, NDSS'19; Markuze, ASPLOS'16")                                                \
    ROW(ALIAS, alias, "alias", "one page at several addresses, one of them revoked",               \
        "revoke all aliases; count references", "Markuze, EuroSys'21")                             \
    ROW(WITHHELD_COMPLETION, withheld_completion, "withheld-completion",                           \
        "the device withholds completion to keep its window open",                                 \
        "a timeout, forced unmap and reset", "Thunderclap, NDSS'19")                               \
    ROW(SHARED_MAP, shared_map, "shared-map", "one page table for several devices",                \
        "a domain for each endpoint", "Thunderclap, NDSS'19")                                      \
    ROW(ATS, ats, "ats", "a \"translated\" bit in the request skips the IOMMU",                    \
        "refuse translated requests from untrusted devices", "Thunderclap, NDSS'19")               \
    ROW(DEFERRED_INVALIDATION, deferred_invalidation, "deferred-invalidate",                       \
        "access between unmap and invalidation", "invalidate before the unmap completes",          \
        "Markuze, ASPLOS'16")                                                                      \
    ROW(STALE_POINTER, stale_pointer, "stale-pointer", "a translation is kept past the unmap",     \
        "a generation counter; translate anew", "rings translated once, when a queue is enabled")  \
    ROW(PRE_INIT, pre_init, "pre-init", "DMA before the driver attaches, or after a reset",        \
        "bypass off at boot; deny on reset", "virtio 1.2, 5.13: bypass")                           \
    ROW(IDENTITY_HOLE, identity_hole, "identity-hole", "a permanent identity window",              \
        "an explicit reserved list; fail closed", "VT-d, 8.4 (RMRR)")                              \
    ROW(MSI_SPOOF, msi_spoof, "msi-spoof", "a DMA write to 0xfee00000 injects an interrupt",       \
        "trap the window; vectors allowed for each endpoint", "Wojtczuk and Rutkowska, 2011")      \
    ROW(PEER, peer, "peer", "DMA to another device's registers", "translate to RAM only",          \
        "PCI Express, 6.12 (ACS)")                                                                 \
    ROW(REQUESTER_SPOOF, requester_spoof, "requester-spoof",                                       \
        "a forged endpoint id in the request", "identity bound by the VMM, not by the request",    \
        "PCI Express, 6.12 (source validation)")                                                   \
    ROW(PERMISSION, permission, "permission", "write to a read mapping, read of a write mapping",  \
        "check direction, length and page crossing", "virtio 1.2, 5.13: MAP flags")                \
    ROW(DESCRIPTOR_LOOP, descriptor_loop, "descriptor-loop",                                       \
        "cyclic next, nested indirect, wild index", "bound by the queue's size; reject nesting",   \
        "virtio 1.2, 2.7.5")                                                                       \
    ROW(DESCRIPTOR_TOCTOU, descriptor_toctou, "descriptor-toctou",                                 \
        "a descriptor is edited after its check", "copy once, then validate the copy",             \
        "virtio 1.2, 2.7")                                                                         \
    ROW(USED_RING, used_ring, "used-ring", "the device returns a false id, length or index",       \
        "the driver keeps shadow metadata", "VIA, ACSAC'21")                                       \
    ROW(BOUNCE_METADATA, bounce_metadata, "bounce-metadata",                                       \
        "the device corrupts what drives bounce copies",                                           \
        "book-keeping out of reach; validate lengths", "VIA, ACSAC'21")                            \
    ROW(ARITHMETIC, arithmetic, "arithmetic", "ends at 2^64-1, physical and request wrap-around",  \
        "checked arithmetic", "virtio 1.2, 5.13: inclusive ends")                                  \
    ROW(EXHAUSTION, exhaustion, "exhaustion", "mappings without end, a flood of faults",           \
        "quotas, bounded queues, a drop counter", "virtio 1.2, 5.13: fault reporting")             \
    ROW(UNPINNED, unpinned, "unpinned", "a page is freed and reused while it is mapped",           \
        "pin until UNMAP", "VFIO and iommufd: pinned pages")

#define ATTACK_CONSTANT(constant, ...) ATTACK_##constant,

enum attack_class { ATTACKS(ATTACK_CONSTANT) LAB_ATTACKS };

#undef ATTACK_CONSTANT

#endif
