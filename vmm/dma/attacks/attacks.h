/*
 * The attacks, in the order of the matrix. A row names the constant and the file,
 * attacks/FILE.c, which holds everything else in its `const struct attack attack_FILE`
 * (attack.h):
 *
 *     ROW(CONSTANT, FILE)
 */
#ifndef STRATA_DMA_ATTACKS_ATTACKS_H
#define STRATA_DMA_ATTACKS_ATTACKS_H

#define ATTACKS(ROW)                                  \
    ROW(PROBE_SCAN, probe_scan)                       \
    ROW(KERNEL_POINTER, kernel_pointer)               \
    ROW(CO_LOCATION, co_location)                     \
    ROW(ALIAS, alias)                                 \
    ROW(WITHHELD_COMPLETION, withheld_completion)     \
    ROW(SHARED_MAP, shared_map)                       \
    ROW(ATS, ats)                                     \
    ROW(DEFERRED_INVALIDATION, deferred_invalidation) \
    ROW(STALE_POINTER, stale_pointer)                 \
    ROW(PRE_INIT, pre_init)                           \
    ROW(IDENTITY_HOLE, identity_hole)                 \
    ROW(MSI_SPOOF, msi_spoof)                         \
    ROW(PEER, peer)                                   \
    ROW(REQUESTER_SPOOF, requester_spoof)             \
    ROW(PERMISSION, permission)                       \
    ROW(DESCRIPTOR_LOOP, descriptor_loop)             \
    ROW(DESCRIPTOR_TOCTOU, descriptor_toctou)         \
    ROW(USED_RING, used_ring)                         \
    ROW(BOUNCE_METADATA, bounce_metadata)             \
    ROW(ARITHMETIC, arithmetic)                       \
    ROW(EXHAUSTION, exhaustion)                       \
    ROW(UNPINNED, unpinned)

struct attack;

#define ATTACK_CONSTANT(constant, file) ATTACK_##constant,

enum attack_class { ATTACKS(ATTACK_CONSTANT) ATTACK_COUNT };

#undef ATTACK_CONSTANT

/* By the constant of the row. */
extern const struct attack *const attack_table[ATTACK_COUNT];

#endif
