/*
 * Attack classes: what each should come to under a policy, and how it is carried out.
 * The first half knows nothing of a machine (rules.h); the second finds out what happens
 * on one (engine.h).
 */
#ifndef STRATA_DMA_ATTACK_H
#define STRATA_DMA_ATTACK_H

#include "vmm/dma/lab.h"
#include "vmm/dma/policy.h"

/* In the order of lab_attacks. */
enum attack {
    ATTACK_PROBE_SCAN,
    ATTACK_KERNEL_POINTER,
    ATTACK_CO_LOCATION,
    ATTACK_ALIAS,
    ATTACK_WITHHELD_COMPLETION,
    ATTACK_SHARED_MAP,
    ATTACK_ATS,
    ATTACK_DEFERRED_INVALIDATION,
    ATTACK_STALE_POINTER,
    ATTACK_PRE_INIT,
    ATTACK_IDENTITY_HOLE,
    ATTACK_MSI_SPOOF,
    ATTACK_PEER,
    ATTACK_REQUESTER_SPOOF,
    ATTACK_PERMISSION,
    ATTACK_DESCRIPTOR_LOOP,
    ATTACK_DESCRIPTOR_TOCTOU,
    ATTACK_USED_RING,
    ATTACK_BOUNCE_METADATA,
    ATTACK_ARITHMETIC,
    ATTACK_EXHAUSTION,
    ATTACK_UNPINNED,
};

/* One target of an attack, and what the policy lets become of it. */
struct attack_plan {
    char target[ABI_POLICY_NAME_BYTES]; /* a region's name, or what else is attacked */
    struct lab_effect effect;
    char because[LAB_REASON_BYTES];
};

/* The n-th target of a device; false: there is none. */
typedef bool attack_expect(const struct policy *policy, unsigned device, unsigned n,
                           struct attack_plan *plan);

extern attack_expect *const attack_expectations[LAB_ATTACKS];

/* Bytes of the victims that are no region. */
#define ATTACK_PAGE_BYTES      4096u
#define ATTACK_POINTER_BYTES   8u
#define ATTACK_NEIGHBOUR_BYTES 256u
#define ATTACK_TOCTOU_BYTES    48u

/* Targets after the policy's regions, where an attack goes for those. */
enum attack_target {
    ATTACK_TARGET_KERNEL,
    ATTACK_TARGET_SECRET,
};

/* What a hostile disk lies about, one target each. */
extern const struct attack_lie {
    const char *name;
    int mode; /* enum hostile_blk */
} attack_lies[];
extern const unsigned attack_lies_count;

/* A vector that the policy does not let the device signal, and that nobody uses. */
unsigned attack_forbidden_vector(const struct policy *policy, unsigned device);

/* Another device, one with a register that may be written if there is one; -1: alone. */
int attack_peer(const struct policy *policy, unsigned device);

/* A translated device whose mappings the device's hunger could cost; -1: there is none. */
int attack_starved(const struct policy *policy, unsigned device);

#endif
